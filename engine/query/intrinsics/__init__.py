"""The intrinsic functions of the States Language."""
