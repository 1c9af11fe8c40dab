"""The stream: how events get from the journals of many machines to those who count them, over Redis Streams."""
