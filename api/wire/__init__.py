"""The AWS Step Functions wire protocol (AWS JSON 1.0) at `POST /`."""
