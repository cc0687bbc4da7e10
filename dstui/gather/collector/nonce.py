"""The shared-storage proof: each host writes a nonce file, every host reads all of them. Runs in children only.

Files are `<dir>/<run>/<name>.nonce`, 64 random bytes. When the runtime user is not the login user, the same code runs
as that user through `sudo -n -u`, fed over standard input: nothing is put on disk, and no shell is involved.
"""

import errno
import os
import re
import stat
import time

from dstui.gather.collector.wire import dumps, errno_name, loads, missing, number, string

SUFFIX = ".nonce"
LEFTOVER_SECONDS = 3600.0
RETRY_SECONDS = 0.5
SETTLE_SECONDS = 10.0
"""How long a folder that another host has just removed may still seem to be there (NFS and FUSE keep names)."""
OTHER_USER_SECONDS = 15.0
_RUN = re.compile(r"^[0-9a-f]{32}$")
_NAME = re.compile(r"^[^/\0]{1,200}$")


def write(args: "dict[str, object]") -> "dict[str, object]":
    """The verb `nonce-write`."""
    return _as(args, "write")


def clean(args: "dict[str, object]") -> "dict[str, object]":
    """The verb `nonce-clean`: remove one's own file, and the folders when they are empty. Nothing to do is fine."""
    return _as(args, "clean")


def read(args: "dict[str, object]") -> "dict[str, object]":
    """The verb `nonce-read`: retried every 0.5 s until all match or `within` seconds are over."""
    return _as(args, "read")


def _places(args: "dict[str, object]") -> "tuple[str, str]":
    folder, run = string(args, "dir"), string(args, "run")
    if not folder.startswith("/") or not _RUN.match(run):
        raise ValueError("dir must be an absolute path and run 32 hexadecimal digits")
    return folder, os.path.join(folder, run)


def _file(run_folder: str, name: str) -> str:
    if not _NAME.match(name) or name.startswith("."):
        raise ValueError("a nonce is named by a plain file name")
    return os.path.join(run_folder, name + SUFFIX)


def _write(args: "dict[str, object]") -> "dict[str, object]":
    from hashlib import sha256

    folder, run_folder = _places(args)
    path = _file(run_folder, string(args, "name"))
    started = time.monotonic()
    answer: "dict[str, object]" = {"written": False, "error": "", "sha256": None, "leftovers": 0}
    try:
        _make_both(folder, run_folder)
        answer["leftovers"] = _reap_leftovers(folder)
        content = os.urandom(64)
        fd = os.open(path + ".part", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.fchmod(fd, 0o644)
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(path + ".part", path)
        answer.update(written=True, sha256=sha256(content).hexdigest())
    except OSError as error:
        answer["error"] = errno_name(error)
    answer["ms"] = round((time.monotonic() - started) * 1000, 3)
    return answer


def _make_both(folder: str, run_folder: str) -> None:
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            _make(folder)
            return _make(run_folder)
        except OSError as error:
            stale = error.errno in (errno.ENOENT, errno.ESTALE) and os.path.isdir(os.path.dirname(folder))
            if not stale or time.monotonic() > until:
                raise
        time.sleep(RETRY_SECONDS)


def _make(place: str) -> None:
    try:
        os.mkdir(place)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(place).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", place)
        return
    try:
        # Other hosts write beside us, perhaps as other users; sticky, so that nobody removes another's file.
        os.chmod(place, 0o1777)
    except OSError:
        pass  # where modes cannot be set, whoever is shut out says so with its own write


def _reap_leftovers(folder: str) -> int:
    removed = 0
    for run in filter(_RUN.match, os.listdir(folder)):
        place = os.path.join(folder, run)
        try:
            names = os.listdir(place) if _old(place) else []
        except OSError:
            continue  # another host reaps at the same time, or it is not ours to look into
        removed += sum(_reap(os.path.join(place, name)) for name in names)
        if names:
            _remove_if_empty(place)
    return removed


def _reap(path: str) -> int:
    try:
        ours = os.lstat(path).st_uid == os.geteuid()
        if not (ours and path.endswith((SUFFIX, SUFFIX + ".part")) and _old(path)):
            return 0
        os.unlink(path)
    except OSError:
        return 0
    return 1


def _old(path: str) -> bool:
    return os.lstat(path).st_mtime < time.time() - LEFTOVER_SECONDS


def _remove_if_empty(place: str) -> None:
    try:
        os.rmdir(place)
    except OSError:
        pass


def _clean(args: "dict[str, object]") -> "dict[str, object]":
    folder, run_folder = _places(args)
    path = _file(run_folder, string(args, "name"))
    for name in (path, path + ".part"):
        try:
            os.unlink(name)
        except FileNotFoundError:
            continue
        except OSError as error:
            return missing("probe-error", "%s: %s stays behind: %s" % (errno_name(error), name, error.strerror))
    _remove_if_empty(run_folder)
    _remove_if_empty(folder)
    return {}


def _read(args: "dict[str, object]") -> "dict[str, object]":
    run_folder = _places(args)[1]
    wanted = args.get("sha256")
    if not isinstance(wanted, dict):
        raise TypeError("sha256 is not a table of writers")
    within = number(args, "within", 40.0)
    started = time.monotonic()
    reads: "dict[str, list[object]]" = {}
    left = {writer: _file(run_folder, writer) for writer in wanted}
    while True:
        for writer, path in list(left.items()):
            outcome, error = _compare(path, wanted[writer])
            reads[writer] = [outcome, error, round(time.monotonic() - started, 3)]
            if outcome == "match":
                del left[writer]
        if not left or time.monotonic() - started + RETRY_SECONDS > within:
            return {"reads": reads}
        time.sleep(RETRY_SECONDS)


def _compare(path: str, wanted: object) -> "tuple[str, str]":
    from hashlib import sha256

    try:
        with open(path, "rb") as nonce:
            content = nonce.read(4096)
    except FileNotFoundError:
        return "absent", "ENOENT"
    except OSError as error:
        return "error", errno_name(error)
    return ("match", "") if sha256(content).hexdigest() == wanted else ("mismatch", "")


_DOERS = {"write": _write, "clean": _clean, "read": _read}


def _as(args: "dict[str, object]", what: str) -> "dict[str, object]":
    from dstui.gather.collector.files import login_user

    _places(args)
    user = string(args, "as_user") if args.get("as_user") else ""
    if not user or user == login_user():
        answer = _DOERS[what](args)
        user = login_user()
    else:
        answer = _as_other(user, args, what)
    if what == "write":
        answer["as_user"] = user
    return answer


def _as_other(user: str, args: "dict[str, object]", what: str) -> "dict[str, object]":
    if not os.getuid():
        return _as_root_can(user, args, what)
    import marshal
    import subprocess
    import sys

    from dstui.gather.collector.commands import environment, find
    from dstui.gather.collector.parts import shipped

    program = (
        "import sys,marshal;p,m,f,a=marshal.loads(sys.stdin.buffer.read());"
        "g={'__name__':'dstui.gather.collector.parts'};"
        "k,c=p['dstui.gather.collector.parts'];exec(marshal.loads(c)if k=='code'else c,g);"
        "sys.stdout.write(g['run_shipped'](p,m,f,a))"
    )
    sudo = find("sudo")
    if not sudo:
        return _no_permission(what, "there is no sudo on the host to become %s with" % user)
    alone = dict(args, as_user="")
    child = subprocess.Popen(
        [sudo, "-n", "-u", user, "--", sys.executable, "-I", "-S", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    message = marshal.dumps((shipped(), "dstui.gather.collector.nonce", "spoken", dumps({"what": what, "args": alone})))
    output, error = child.communicate(message, timeout=number(args, "within", 0.0) + OTHER_USER_SECONDS)
    try:
        answer = loads(output.decode("utf-8"))
    except ValueError:
        return _no_permission(what, "sudo -n -u %s: %s" % (user, error.decode("utf-8", "replace").strip()[:300]))
    assert isinstance(answer, dict)
    return answer


def _no_permission(what: str, why: str) -> "dict[str, object]":
    if what == "write":
        return {"written": False, "error": "permission", "why": why, "sha256": None, "leftovers": 0, "ms": 0.0}
    return missing("permission", why)


def _as_root_can(user: str, args: "dict[str, object]", what: str) -> "dict[str, object]":
    import pwd

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return _no_permission(what, "there is no user %s on the host" % user)
    # This child does nothing else afterwards, so it may give up root for good.
    os.setgroups(os.getgrouplist(user, entry.pw_gid))
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    return _DOERS[what](args)


def spoken(message: str) -> str:
    """One request and its answer as JSON text, for the Python that runs as another user."""
    request = loads(message)
    assert isinstance(request, dict)
    return dumps(_DOERS[request["what"]](request["args"]))
