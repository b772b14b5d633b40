"""The asynchronous face. The only package that imports asyncio."""
