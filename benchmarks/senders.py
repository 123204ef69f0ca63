"""The senders: Django's own backend, ours, and other SMTP clients. `measured.py` measures one of them."""

import asyncio
import email.message
import importlib.util
import io
import resource
import shutil
import subprocess
import threading
import time

from benchmarks import project

USER, PASSWORD = "user", "of the benchmarks"


class Sender:
    """Sends lists of messages, and returns how long each took, or [] if that is not known."""

    needs = ""  # a module that must be installed
    threads = False  # whether other threads than the calling one work too
    is_here = True  # whether this process does the work
    backend = project.STOCK  # the backend of Django's default mailer

    def __init__(self, job):
        self.job = job
        options = {"username": USER, "password": PASSWORD, "use_tls": True} if job.is_secure else {}
        if self.backend == project.POOLED:
            options |= {"max_connections": job.connections, "max_messages": 0}
        project.configure(self.backend, job.port, **options)

    def make(self, content, count):
        """Return messages; this is not measured."""
        return project.messages(content, count)

    def send(self, messages):
        """Send all messages."""
        raise NotImplementedError

    def cpu(self):
        """Return the seconds of CPU time used so far."""
        return time.process_time()


class OneByOne(Sender):
    """One thread for each connection; each sends its share one by one."""

    @property
    def threads(self):
        """Whether there are other threads than the calling one."""
        return self.job.connections > 1

    def send(self, messages):
        """Divide the messages among the threads, and send them."""
        width, latencies = self.job.connections, []
        if width == 1:
            self.share(0, messages, latencies)
            return latencies
        workers = [
            threading.Thread(target=self.share, args=(number, messages[number::width], latencies))
            for number in range(width)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return latencies

    def share(self, number, messages, latencies):
        """Send the share of one thread."""
        for message in messages:
            since = time.perf_counter()
            self.one(number, message)
            latencies.append(time.perf_counter() - since)

    def one(self, _, message):
        """Send one message, in the thread with this number."""
        message.send()


class StockSend(OneByOne):
    """Django's own backend with `send()`: a connection for each message."""


class StockOpen(StockSend):
    """Django's own backend, one object with an open connection in each thread."""

    def __init__(self, job):
        super().__init__(job)
        self.backends = [project.backend() for _ in range(job.connections)]
        for backend in self.backends:
            backend.open()

    def one(self, number, message):
        """Send over the open connection of this thread."""
        self.backends[number].send_messages([message])


class StockList(Sender):
    """Django's own backend with a list: one connection for all."""

    def send(self, messages):
        """Send the list."""
        project.backend().send_messages(messages)
        return []


class PoolSend(OneByOne):
    """Our backend with `send()`."""

    backend = project.POOLED


class PoolList(StockList):
    """Our backend with a list."""

    backend = project.POOLED


class PoolAsync(PoolList):
    """Our backend with a list, in an event loop."""

    def send(self, messages):
        """Send the list."""
        asyncio.run(project.backend().asend_messages(messages))
        return []


class Aiosmtplib(Sender):
    """aiosmtplib, one client for each connection, in one event loop."""

    needs = "aiosmtplib"

    def __init__(self, job):
        super().__init__(job)
        self.loop = asyncio.new_event_loop()
        self.clients = self.loop.run_until_complete(self._connected())

    async def _connected(self):
        import aiosmtplib

        login = (
            {"username": USER, "password": PASSWORD, "start_tls": True} if self.job.is_secure else {"start_tls": False}
        )
        place = {"hostname": "127.0.0.1", "port": self.job.port, **login}
        clients = [aiosmtplib.SMTP(**place) for _ in range(self.job.connections)]
        for client in clients:
            await client.connect()
        return clients

    def make(self, content, count):
        """Return messages of the standard library, which are rendered when they are sent."""
        return [self._made(message) for message in project.messages(content, count)]

    def _made(self, message):
        made = email.message.EmailMessage()
        made["Subject"], made["From"], made["To"] = message.subject, message.from_email, message.to[0]
        made.set_content(message.body)
        for html, _ in message.alternatives:
            made.add_alternative(html, subtype="html")
        for name, data, _ in message.attachments:
            made.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
        return made

    def send(self, messages):
        """Let each client send the next message, until none is left."""
        source, latencies = iter(messages), []

        async def work(client):
            for message in source:
                since = time.perf_counter()
                await client.send_message(message)
                latencies.append(time.perf_counter() - since)

        async def send_all():
            await asyncio.gather(*map(work, self.clients))

        self.loop.run_until_complete(send_all())
        return latencies


class Libcurl(OneByOne):
    """libcurl, with a handle for each thread; the content is rendered in advance."""

    needs = "pycurl"

    def __init__(self, job):
        super().__init__(job)
        self.handles = [self._handle() for _ in range(job.connections)]

    def _handle(self):
        import pycurl

        handle = pycurl.Curl()
        handle.setopt(pycurl.URL, f"smtp://127.0.0.1:{self.job.port}")
        handle.setopt(pycurl.MAIL_FROM, "from@example.com")
        handle.setopt(pycurl.UPLOAD, 1)
        if self.job.is_secure:
            handle.setopt(pycurl.USE_SSL, pycurl.USESSL_ALL)
            handle.setopt(pycurl.CAINFO, self.job.authority)
            handle.setopt(pycurl.USERPWD, f"{USER}:{PASSWORD}")
        return handle

    def make(self, content, count):
        """Return (recipient, content); all have the content of the first, since it is not read."""
        made = project.messages(content, count)
        rendered = project.rendered(made[0])
        return [(message.to[0], rendered) for message in made]

    def one(self, number, message):
        """Send with the handle of this thread, which keeps its connection."""
        import pycurl

        handle, (recipient, content) = self.handles[number], message
        handle.setopt(pycurl.MAIL_RCPT, [recipient])
        handle.setopt(pycurl.READDATA, io.BytesIO(content))
        handle.setopt(pycurl.INFILESIZE, len(content))
        handle.perform()


class SmtpSource(Sender):
    """Postfix's load generator, in C; its content consists of the letter X, and each run opens new connections."""

    threads = True

    def make(self, content, count):
        """Return the number of messages, and their size."""
        return (count, len(project.rendered(project.messages(content, 1)[0])))

    def send(self, messages):
        """Run the program once."""
        count, size = messages
        options = ["-d", "-s", self.job.connections, "-m", count, "-l", size]
        addresses = ["-f", "from@example.com", "-t", "to@example.com", f"127.0.0.1:{self.job.port}"]
        subprocess.run(["smtp-source", *map(str, options), *addresses], check=True)
        return []

    is_here = False

    def cpu(self):
        """Return the seconds of CPU time that the program used so far."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime


SENDERS = {
    "stock, send()": StockSend,
    "stock, open connection": StockOpen,
    "stock, one list": StockList,
    "pool, send()": PoolSend,
    "pool, one list": PoolList,
    "pool, asend_messages()": PoolAsync,
    "nodemailer, awaited": None,  # nodemailer.mjs
    "nodemailer, queued": None,
    "aiosmtplib": Aiosmtplib,
    "libcurl (rendered before)": Libcurl,
    "smtp-source (C, no rendering)": SmtpSource,
}


def missing(name):
    """Return why a sender cannot be measured here, or None if it can."""
    kind = SENDERS[name]
    if kind is None:
        return None if shutil.which("node") and shutil.which("npm") else "node and npm are not installed"
    if kind.needs and importlib.util.find_spec(kind.needs) is None:
        return f"not installed: pip install {kind.needs}"
    if kind is SmtpSource and shutil.which("smtp-source") is None:
        return "not installed: it comes with Postfix"
    if kind is PoolAsync:
        from django_smtp_pool.backend import PooledBackend

        return None if hasattr(PooledBackend, "asend_messages") else "this version of the package has none"
    return None
