"""The Open Inference Protocol: messages and codecs, of the server's side and the client's."""
