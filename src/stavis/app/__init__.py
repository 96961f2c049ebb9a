"""Web application: a page to drop a video on, live camera and microphone, and an HTTP service."""
