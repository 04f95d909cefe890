"""The HTTP face of Stepwell: the AWS wire protocol, REST and the web console, over the use-cases of `engine.service`."""
