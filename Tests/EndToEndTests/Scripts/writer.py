"""A load that keeps account of what was acknowledged, and can kill the daemon in the middle of it.

writer.py files FOLDER COUNT [PID]     files, each with fsync; prints `name sha256` after the fsync of it and its folder
writer.py slots FILE COUNT [PID]       4 threads, each in its quarter of FILE; prints `thread number` after each pwrite
writer.py check FILE [pages] < LOG     whether FILE holds what the log of `slots` says; exits 1 and says where not.
                                       With `pages`, the write under way may be there up to a page's edge: through its
                                       page cache the kernel sends a write in pieces

After COUNT acknowledgements the process PID is killed with SIGKILL while the other threads go on; without PID the load
ends there. An error ends the load: after the kill every call fails.
"""
import hashlib
import os
import signal
import sys
import threading

THREADS = 4
lock = threading.Lock()
acknowledged = 0
over = False


def acknowledge(line, count, pid):
    global acknowledged, over
    with lock:
        sys.stdout.write(line + "\n")
        acknowledged += 1
        if acknowledged == count:
            if pid:
                os.kill(pid, signal.SIGKILL)
            else:
                over = True
        return not over


def files(folder, thread, count, pid):
    number = 0
    try:
        while True:
            name = f"file-{thread}-{number:05}"
            data = hashlib.sha256(name.encode()).digest() * (1 + number * 37 % 1500)
            with open(os.path.join(folder, name), "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            descriptor = os.open(folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
            if not acknowledge(f"{name} {hashlib.sha256(data).hexdigest()}", count, pid):
                return
            number += 1
    except OSError:
        pass


def slot_write(size, thread, number):
    """Where and what thread writes as its `number`: 1 byte to 96 KiB, at any alignment, again and again over itself."""
    quarter = size // THREADS
    seed = int.from_bytes(hashlib.blake2b(f"{thread} {number}".encode(), digest_size=8).digest(), "little")
    length = 1 + (seed >> 32) % (98304 if seed % 4 == 0 else 9000)
    length = min(length, quarter)
    offset = thread * quarter + (seed & 0xFFFFFFFF) % (quarter - length + 1)
    block = hashlib.blake2b(f"{thread} {number} data".encode()).digest()
    return offset, (block * (length // 64 + 1))[:length]


def slots(path, thread, count, pid):
    try:
        descriptor = os.open(path, os.O_RDWR)
        size = os.fstat(descriptor).st_size
        number = 0
        while True:
            offset, data = slot_write(size, thread, number)
            if os.pwrite(descriptor, data, offset) != len(data):
                return
            if not acknowledge(f"{thread} {number}", count, pid):
                return
            number += 1
    except OSError:
        pass


def difference(found, expected, offset, data):
    """Where `found` is not what the last write, at `offset`, should have left, in blocks; and whether that is a part of it."""
    wrong = [index for index in range(len(found)) if found[index] != expected[index]]
    blocks = sorted({index // 4096 for index in wrong})
    inside = all(offset <= index < offset + len(data) for index in wrong)
    return (f"{len(wrong)} bytes in blocks {blocks[:8]}... of {len(blocks)}, first {wrong[0]}, "
            + ("all inside" if inside else "not only inside") + f" the write under way, {offset}+{len(data)}")


def check(path, log, in_pages):
    """The newest acknowledged write of each thread is n: its quarter holds writes 0...n, or 0...n+1 as a whole."""
    newest = [-1] * THREADS
    for line in log:
        thread, number = map(int, line.split())
        newest[thread] = max(newest[thread], number)
    bad = False
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        quarter = size // THREADS
        for thread in range(THREADS):
            expected = bytearray(quarter)
            for number in range(newest[thread] + 1):
                offset, data = slot_write(size, thread, number)
                offset -= thread * quarter
                expected[offset:offset + len(data)] = data
            stream.seek(thread * quarter)
            found = stream.read(quarter)
            if found == bytes(expected):
                continue
            offset, data = slot_write(size, thread, newest[thread] + 1)
            offset -= thread * quarter
            before = bytes(expected)
            expected[offset:offset + len(data)] = data
            if found == bytes(expected):
                continue
            cut = next(index for index in range(quarter) if found[index] != expected[index])
            if in_pages and cut % 4096 == 0 and found == bytes(expected[:cut]) + before[cut:]:
                continue
            print(f"thread {thread}, acknowledged up to {newest[thread]}: {difference(found, expected, offset, data)}")
            bad = True
    print("newest", *newest)
    return 1 if bad else 0


def main():
    mode, path = sys.argv[1:3]
    if mode == "check":
        return check(path, sys.stdin, sys.argv[3:] == ["pages"])
    count = int(sys.argv[3])
    pid = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    work = {"files": files, "slots": slots}[mode]
    threads = [threading.Thread(target=work, args=(path, thread, count, pid)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


sys.exit(main())
