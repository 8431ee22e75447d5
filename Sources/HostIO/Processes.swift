internal import CLinux
internal import Glibc

/// What the tool asks of Linux about processes and mounts, each a call that Glibc does not show to Swift.
public enum Processes {
    /// Starts the program in a session of its own. It inherits `null` as standard input and output, `error` as standard
    /// error and `status` as descriptor 3 (posix_spawn(3) with POSIX_SPAWN_SETSID); no signal is blocked in it.
    /// - Returns: its process number.
    public static func spawnDaemon(
        _ program: String, _ arguments: [String], null: Int32, error: Int32, status: Int32
    ) throws(IOError) -> Int32 {
        var copies: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        copies.append(nil)
        defer { for copy in copies { free(copy) } }
        var process: pid_t = 0
        let code = cl_spawn_daemon(program, copies, null, error, status, &process)
        if code < 0 { throw IOError(call: "posix_spawn", path: program, code: -code) }
        return process
    }

    /// Waits until the process is gone (pidfd_open(2) and poll(2)).
    /// - Parameter milliseconds: at most so long; -1: for ever.
    /// - Returns: whether it is gone.
    public static func waitForExit(of process: Int32, milliseconds: Int32) throws(IOError) -> Bool {
        let opened = cl_pidfd_open(process)
        if opened == -ESRCH { return true }
        if opened < 0 { throw IOError(call: "pidfd_open", path: "process \(process)", code: -opened) }
        defer { close(opened) }
        return waitReadable(opened, milliseconds: milliseconds)
    }

    /// Waits until the descriptor can be read or is at its end (poll(2)); false when the time is over.
    public static func waitReadable(_ descriptor: Int32, milliseconds: Int32) -> Bool {
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        let end = deadline.tv_sec * 1000 + deadline.tv_nsec / 1_000_000 + Int(milliseconds)
        var left = milliseconds
        while true {
            var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let found = poll(&item, 1, left)
            if found > 0 { return true }
            if found == 0 { return false }
            if errno != EINTR { return true }
            if milliseconds >= 0 {
                var now = timespec()
                clock_gettime(CLOCK_MONOTONIC, &now)
                left = Int32(max(0, end - now.tv_sec * 1000 - now.tv_nsec / 1_000_000))
            }
        }
    }

    /// umount2(2) with UMOUNT_NOFOLLOW: EBUSY while somebody uses it, unless `lazy` (MNT_DETACH).
    public static func unmount(_ path: String, lazy: Bool) throws(IOError) {
        let code = cl_unmount(path, lazy ? 1 : 0)
        if code < 0 { throw IOError(call: "umount2", path: path, code: -code) }
    }

    /// Holds all writes of the file system mounted at `path` (FIFREEZE); what was written is on its device afterwards.
    public static func freeze(_ path: String) throws(IOError) { try onDirectory(path, "FIFREEZE", cl_freeze) }
    /// Lets the writes go on (FITHAW).
    public static func thaw(_ path: String) throws(IOError) { try onDirectory(path, "FITHAW", cl_thaw) }

    private static func onDirectory(_ path: String, _ call: String, _ body: (Int32) -> Int32) throws(IOError) {
        let opened = cl_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        if opened < 0 { throw IOError(call: "open", path: path, code: -opened) }
        defer { close(opened) }
        let code = body(opened)
        if code < 0 { throw IOError(call: call, path: path, code: -code) }
    }

    /// No core dumps, so that no content leaves by one, and as many open files as allowed (setrlimit(2)).
    public static func prepareDaemon() {
        _ = cl_forbid_core_dumps()
        _ = cl_raise_open_files()
    }

    /// The width of the terminal behind the descriptor, nil if it is none (TIOCGWINSZ).
    public static func terminalColumns(_ descriptor: Int32) -> Int? {
        let columns = cl_terminal_columns(descriptor)
        return columns > 0 ? Int(columns) : nil
    }
}

extension Processes {
    /// Names the calling thread, and from the main thread the process, as ps(1) shows it (pthread_setname_np(3)).
    public static func nameThread(_ name: String) { _ = cl_name_thread(name) }
}
