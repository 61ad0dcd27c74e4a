#!/usr/bin/python3
"""A stand-in for Proxmox VE's pct, which is in no package of Debian's and runs nowhere but there.

It takes the real one's arguments and refuses what that refuses, in its words and with its exit status; it keeps containers in /etc/pve/lxc/ID.conf
with the real one's locks and pending changes, and starts them as pve-container@ID.service does: lxc-start in the foreground, with files that a hook
mounts in the monitor's own namespace. What is below is a real LXC. It does not have Proxmox's storages (each is a directory), snapshots, high
availability, or the setup of distributions.

The directory of this file holds: `mode` (a fault to make), `calls` (each call's arguments), `images`, and what the modes leave for the tests.
"""
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIGURATIONS = "/etc/pve/lxc"
LXC = "/var/lib/lxc"
CACHE = HERE + "/cache"
STORAGES = {"local", "local-btrfs"}

OPTIONS = {
    "cores": (int, 1, 8192), "cpulimit": None, "description": None, "features": re.compile(r"((force_rw_sys|fuse|keyctl|mknod|nesting)=[01],?|mount=[\w;]+,?)+"),
    "hostname": re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"), "memory": (int, 16, None), "nameserver": re.compile(r"[0-9a-fA-F:., ]+"),
    "net0": None, "onboot": (int, 0, 1), "protection": (int, 0, 1), "searchdomain": re.compile(r"[\w. -]+"), "swap": (int, 0, None),
    "tags": re.compile(r"[a-z0-9_][a-z0-9_+.;-]*"),
}
MAKING = {"rootfs": None, "storage": re.compile(r"[a-zA-Z][\w.-]*\w"), "unprivileged": (int, 0, 1)}
COMMANDS = {
    "create": (["vmid", "ostemplate"], OPTIONS | MAKING), "clone": (["vmid", "newid"], {"full": (int, 0, 1), "hostname": None, "storage": None}),
    "set": (["vmid"], OPTIONS | {"delete": None}), "resize": (["vmid", "disk", "size"], {}), "start": (["vmid"], {}), "stop": (["vmid"], {}),
    "shutdown": (["vmid"], {"timeout": (int, 0, None), "forceStop": (int, 0, 1)}), "unlock": (["vmid"], {}), "status": (["vmid"], {}), "list": ([], {}),
    "destroy": (["vmid"], {"purge": (int, 0, 1), "force": (int, 0, 1)}), "config": (["vmid"], {}), "exec": (["vmid"], {}),
}
# What takes effect in a running container, or needs none.
LIVE = {"cores", "description", "hostname", "memory", "onboot", "protection", "swap", "tags"}


def die(words, status=255):
    sys.stderr.write(words + "\n")
    sys.exit(status)


def usage(command, words):
    names = " ".join(f"<{name}>" for name in COMMANDS[command][0])
    die(f"400 Parameter verification failed.\n{words}\npct {command} {names} [OPTIONS]")


def path(vmid):
    return f"{CONFIGURATIONS}/{vmid}.conf"


def load(vmid):
    """The configuration and its pending changes."""
    try:
        text = open(path(vmid)).read()
    except FileNotFoundError:
        die(f"Configuration file 'nodes/pve/lxc/{vmid}.conf' does not exist")
    current, pending = {}, {}
    into = current
    for line in text.splitlines():
        if line == "[pve:pending]":
            into = pending
        elif ": " in line:
            name, value = line.split(": ", 1)
            into[name] = value
    return current, pending


def store(vmid, current, pending=None):
    text = "".join(f"{name}: {value}\n" for name, value in sorted(current.items()))
    if pending:
        text += "\n[pve:pending]\n" + "".join(f"{name}: {value}\n" for name, value in sorted(pending.items()))
    with open(path(vmid) + ".tmp", "w") as file:
        file.write(text)
    os.rename(path(vmid) + ".tmp", path(vmid))


def only_one(vmid):
    os.makedirs("/run/lock/lxc", exist_ok=True)
    name = f"/run/lock/lxc/pve-config-{vmid}.lock"
    file = open(name, "w")
    for _ in range(100):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            time.sleep(0.1)
    die(f"can't lock file '{name}' - got timeout")


def check_lock(current):
    if "lock" in current:
        die(f"CT is locked ({current['lock']})")


def run(*command, **more):
    return subprocess.run(command, stdin=subprocess.DEVNULL, **more)


def runs(vmid):
    state = run("lxc-info", "-n", vmid, "-s", "-H", capture_output=True, text=True)
    return state.returncode == 0 and state.stdout.strip() != "STOPPED"


def mode(word):
    try:
        return open(HERE + "/mode").read().strip() == word
    except FileNotFoundError:
        return False


def arguments(command, words):
    names, known = COMMANDS[command]
    options, plain = {}, []
    words = iter(words)
    for word in words:
        if not word.startswith("-"):
            plain.append(word)
            continue
        name = word.lstrip("-")
        if name not in known:
            die(f"Unknown option: {name}\n400 unable to parse option\npct {command} {' '.join(f'<{name}>' for name in names)} [OPTIONS]")
        options[name] = next(words, None)
        if options[name] is None:
            die(f"Option {name} requires an argument\n400 unable to parse option")
    if len(plain) > len(names):
        die(f"400 too many arguments\npct {command}")
    if len(plain) < len(names):
        die(f"400 not enough arguments\npct {command}")
    for name, value in zip(names, plain):
        if name in ("vmid", "newid") and not (value.isdigit() and 100 <= int(value) <= 999999999):
            usage(command, f"{name}: invalid format - value does not look like a valid VM ID")
    for name, value in options.items():
        rule = known[name]
        if isinstance(rule, tuple):
            if not re.fullmatch(r"-?\d+", value):
                usage(command, f"{name}: type check ('integer') failed - got '{value}'")
            for bound, is_wrong, word in [(rule[1], lambda a, b: a < b, "minimum"), (rule[2], lambda a, b: a > b, "maximum")]:
                if bound is not None and is_wrong(int(value), bound):
                    usage(command, f"{name}: value must have a {word} value of {bound}")
        elif rule is not None and not rule.fullmatch(value):
            usage(command, f"{name}: invalid format - value '{value}' does not look right")
    return plain, options


def unused(vmid):
    if os.path.exists(path(vmid)):
        die(f"CT {vmid} already exists on node 'pve'")


def volume(storage, gigabytes):
    if storage not in STORAGES:
        die(f"storage '{storage}' does not exist")
    return f"{storage}:SIZE,size={gigabytes}G"


def create(words):
    (vmid, template), options = arguments("create", words)
    unused(vmid)
    storage = options.pop("storage", "local")
    root = options.pop("rootfs", f"{storage}:4")
    root = f"{storage}:{root}" if root.isdigit() else root
    root_storage, gigabytes = root.split(":")
    root = volume(root_storage, gigabytes).replace("SIZE", f"{vmid}/vm-{vmid}-disk-0.raw")
    if template.startswith("/"):
        archive = template
    else:
        of, _, file = template.partition(":vztmpl/")
        if not file:
            die(f"unable to parse volume ID '{template}'")
        if of not in STORAGES:
            die(f"storage '{of}' does not exist")
        archive = f"{CACHE}/{file}"
    if mode("race"):
        # Somebody else's comes into being just now.
        store(vmid, {"hostname": "somebody", "rootfs": root})
        unused(vmid)
    with only_one(vmid):
        store(vmid, {"lock": "create"})
    if mode("slow-create"):
        open(HERE + "/creating", "w").write(str(os.getpid()))
        while mode("slow-create"):
            time.sleep(0.05)
    rootfs = f"{HERE}/images/{vmid}"
    os.makedirs(rootfs)
    print(f"extracting archive '{archive}'")
    extract = ["tar", "-x", "--numeric-owner", "-f", archive, "-C", rootfs]
    if run(*extract).returncode:
        shutil.rmtree(rootfs)
        os.remove(path(vmid))
        die(f"unable to create CT {vmid} - command '{' '.join(extract)}' failed: exit code 2")
    if options.get("unprivileged") == "1":
        give(rootfs)
    current = {"arch": "amd64", "memory": "512", "swap": "512", "ostype": "unmanaged"}
    current |= {"hostname": f"CT{vmid}", "rootfs": root} | options
    store(vmid, current)


def give(rootfs):
    for place, directories, files in os.walk(rootfs):
        for name in ["."] + [name for name in directories + files if name != "."]:
            found = os.lstat(f"{place}/{name}")
            if found.st_uid < 100000:
                os.lchown(f"{place}/{name}", found.st_uid + 100000, found.st_gid + 100000)


def clone(words):
    (vmid, new), options = arguments("clone", words)
    unused(new)
    current, _ = load(vmid)
    check_lock(current)
    if runs(vmid):
        die("Full clone of a running container is only possible from a snapshot")
    with only_one(new):
        store(new, {"lock": "create"})
    run("cp", "-a", "-T", f"{HERE}/images/{vmid}", f"{HERE}/images/{new}", check=True)
    current.pop("protection", None)
    if "storage" in options:
        current["rootfs"] = volume(options["storage"], "8").replace("SIZE", f"{new}/vm-{new}-disk-0.raw")
    store(new, current | {name: value for name, value in options.items() if name == "hostname"})


def change(words):
    (vmid,), options = arguments("set", words)
    if mode("hang-set"):
        open(HERE + "/hangs", "w").close()
        time.sleep(600)
    deleted = [name for name in options.pop("delete", "").split(",") if name]
    if not options and not deleted:
        die("no options specified")
    with only_one(vmid):
        current, pending = load(vmid)
        check_lock(current)
        for name in deleted:
            if name in ("memory", "rootfs", "ostype"):
                die(f"unable to delete required option '{name}'")
            if name not in current and name not in pending:
                sys.stderr.write(f"cannot delete '{name}' - not set in current configuration!\n")
                continue
            pending.pop(name, None)
            if runs(vmid) and name not in LIVE:
                waiting = [of for of in pending.get("delete", "").split(",") if of]
                pending["delete"] = ",".join(waiting + [name])
            else:
                current.pop(name, None)
        for name, value in options.items():
            if runs(vmid) and name not in LIVE:
                pending[name] = value
            else:
                current[name] = value
        store(vmid, current, pending)
        if runs(vmid) and "memory" in options:
            limit = str(int(options["memory"]) << 20)
            for file in ("memory.limit_in_bytes", "memory.max"):
                if run("lxc-cgroup", "-n", vmid, file, limit, stderr=subprocess.DEVNULL).returncode == 0:
                    break


def resize(words):
    (vmid, disk, size), _ = arguments("resize", words)
    current, _ = load(vmid)
    check_lock(current)
    old = int(re.search(r"size=(\d+)G", current[disk]).group(1))
    if int(size.rstrip("G")) < old:
        die("unable to shrink disk size")
    current[disk] = re.sub(r"size=\d+G", f"size={size}", current[disk])
    store(vmid, current)


def start(words):
    (vmid,), _ = arguments("start", words)
    if runs(vmid):
        die(f"CT {vmid} already running")
    with only_one(vmid):
        current, pending = load(vmid)
        check_lock(current)
        for name in pending.pop("delete", "").split(","):
            current.pop(name, None)
        current |= pending
        store(vmid, current)
    if mode("fail-start"):
        die(f"Job for pve-container@{vmid}.service failed because the control process exited with error code.\n"
            f"See \"systemctl status pve-container@{vmid}.service\" and \"journalctl -xeu pve-container@{vmid}.service\" for details.\n"
            f"command 'systemctl start pve-container@{vmid}' failed: exit code 1")
    if mode("slow-start"):
        time.sleep(3)
    place = f"{LXC}/{vmid}"
    os.makedirs(place + "/rootfs", exist_ok=True)
    hook = f"{HERE}/prestart-{vmid}"
    lines = [f"nameserver {server}" for server in re.split("[ ,]+", current.get("nameserver", "")) if server]
    if "searchdomain" in current:
        lines.insert(0, f"search {current['searchdomain']}")
    with open(hook, "w") as file:
        file.write("#!/bin/sh\n" + f"mount --bind {HERE}/images/{vmid} {place}/rootfs\n")
        if lines:
            file.write(f"printf '%s\\n' {' '.join(repr(line) for line in lines)} > {place}/rootfs/etc/resolv.conf\n")
    os.chmod(hook, 0o755)
    memory = int(current["memory"]) << 20
    cgroup = open(HERE + "/cgroup").read().strip()
    text = f"""lxc.monitor.unshare = 1
lxc.hook.pre-start = {hook}
lxc.rootfs.path = {place}/rootfs
lxc.uts.name = {current["hostname"]}
lxc.net.0.type = empty
lxc.apparmor.profile = unconfined
lxc.cgroup.dir = {cgroup}/{vmid}
lxc.signal.halt = SIGUSR1
lxc.autodev = 1
lxc.tty.max = 2
lxc.console.path = none
lxc.mount.auto = cgroup:mixed proc:mixed sys:ro
"""
    for directory in ("lib", "usr/lib", "lib64", "usr/lib64"):
        if os.path.isdir("/" + directory):
            text += f"lxc.mount.entry = /{directory} {directory} none ro,bind,optional 0 0\n"
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        text += f"lxc.cgroup2.memory.max = {memory}\n"
    else:
        text += f"lxc.cgroup.memory.limit_in_bytes = {memory}\n"
    if current.get("unprivileged") == "1":
        text += "lxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\n"
    with open(place + "/config", "w") as file:
        file.write(text)
    with open(f"{HERE}/ct-{vmid}.stderr", "w") as errors:
        monitor = subprocess.Popen(["lxc-start", "-F", "-n", vmid], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                                   start_new_session=True)
    for _ in range(200):
        if run("lxc-info", "-n", vmid, "-s", "-H", capture_output=True, text=True).stdout.strip() == "RUNNING":
            return
        if monitor.poll() is not None:
            break
        time.sleep(0.05)
    sys.stderr.write(open(f"{HERE}/ct-{vmid}.stderr").read())
    die(f"startup for container '{vmid}' failed")


def stop(words):
    (vmid,), _ = arguments("stop", words)
    check_lock(load(vmid)[0])
    if not runs(vmid):
        die(f"CT {vmid} not running")
    sys.exit(run("lxc-stop", "-n", vmid, "--kill").returncode)


def shutdown(words):
    (vmid,), options = arguments("shutdown", words)
    check_lock(load(vmid)[0])
    if not runs(vmid):
        die(f"CT {vmid} not running")
    more = [] if options.get("forceStop") == "1" else ["--nokill"]
    if run("lxc-stop", "-n", vmid, *more, "--timeout", options.get("timeout", "60")).returncode:
        die(f"command 'lxc-stop -n {vmid}' failed: exit code 1")


def destroy(words):
    (vmid,), options = arguments("destroy", words)
    current, _ = load(vmid)
    if current.get("protection") == "1":
        die(f"can't remove CT {vmid} - protection mode enabled")
    check_lock(current)
    if runs(vmid):
        if options.get("force") != "1":
            die(f"unable to destroy CT {vmid} - container is running")
        run("lxc-stop", "-n", vmid, "--kill")
    shutil.rmtree(f"{HERE}/images/{vmid}", ignore_errors=True)
    for remove, name in ((os.rmdir, "/rootfs"), (os.remove, "/config"), (os.rmdir, "")):
        try:
            remove(f"{LXC}/{vmid}{name}")
        except OSError:
            pass
    os.remove(path(vmid))
    print(f"purging CT {vmid} from related configurations..")


def unlock(words):
    (vmid,), _ = arguments("unlock", words)
    current, pending = load(vmid)
    current.pop("lock", None)
    store(vmid, current, pending)


def status(words):
    (vmid,), _ = arguments("status", words)
    load(vmid)
    print("status: " + ("running" if runs(vmid) else "stopped"))


def config(words):
    (vmid,), _ = arguments("config", words)
    for name, value in sorted(load(vmid)[0].items()):
        print(f"{name}: {value}")


def listing(words):
    arguments("list", words)
    names = sorted(name[:-5] for name in os.listdir(CONFIGURATIONS) if name.endswith(".conf"))
    if names:
        print("%-10s %-10s %-12s %-20s" % ("VMID", "Status", "Lock", "Name"))
    for vmid in names:
        current, _ = load(vmid)
        state = "running" if runs(vmid) else "stopped"
        print("%-10s %-10s %-12s %-20s" % (vmid, state, current.get("lock", ""), current.get("hostname", "")))


def execute(words):
    if len(words) < 3 or words[1] != "--":
        die("400 not enough arguments\npct exec <vmid> <extra-args>")
    if not runs(words[0]):
        die(f"container '{words[0]}' not running!")
    sys.exit(run("lxc-attach", "-n", words[0], "--", *words[2:]).returncode)


DO = {"create": create, "clone": clone, "set": change, "resize": resize, "start": start, "stop": stop, "shutdown": shutdown, "destroy": destroy,
      "unlock": unlock, "status": status, "config": config, "list": listing, "exec": execute}

if __name__ == "__main__":
    words = sys.argv[1:]
    if not words or words[0] not in DO:
        die("ERROR: unknown command '" + " ".join(words) + "'\nUSAGE: pct <COMMAND> [ARGS] [OPTIONS]")
    if words[0] != "exec":
        with open(HERE + "/calls", "a") as calls:
            calls.write(" ".join(repr(word) if " " in word else word for word in words) + "\n")
    DO[words[0]](words[1:])
