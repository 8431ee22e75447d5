internal import CLinux
internal import Glibc
internal import Primitives

/// A connected or listening local stream socket (unix(7)), closed with its last reference.
///
/// Names are relative to a directory that is opened first, so the path may be longer than the 107 bytes that an address
/// has room for.
public final class LocalSocket: Sendable {
    public let descriptor: Int32

    /// Takes over `descriptor`.
    public init(descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    /// Listens at `name` in `directory`, mode 0600; an older socket of that name is replaced in one step. Where the file
    /// system has no room for the name, at one that needs none, which `connect` tries too.
    ///
    /// Whoever calls this knows that the older one is dead: it holds the lock that its owner would hold.
    /// - Throws: `io` of open(2), bind(2), renameat(2); EEXIST when the name is taken by something else than a socket.
    public static func listen(directory: String, name: String, backlog: Int32) throws(IOError) -> LocalSocket {
        let holder = try openHolder(directory)
        defer { close(holder) }
        let path = directory + "/" + name
        var info = stat()
        if fstatat(holder, name, &info, AT_SYMLINK_NOFOLLOW) == 0, info.st_mode & S_IFMT != S_IFSOCK {
            throw IOError(call: "bind", path: path, code: EEXIST)
        }
        let temporary = "\(name).\(getpid())"
        unlinkat(holder, temporary, 0)
        let opened = cl_unix_listen(holder, temporary, backlog)
        if opened == -ENOSPC || opened == -EDQUOT || opened == -EROFS {
            // XFS makes no file at all on a full disk, and that is when a volume must be reached. The dead socket, if
            // there is one, sends clients to the other name.
            let other = cl_unix_listen_abstract(try abstractName(holder, path), backlog)
            if other >= 0 { return LocalSocket(descriptor: other) }
        }
        if opened < 0 { throw IOError(call: "bind", path: path, code: -opened) }
        let socket = LocalSocket(descriptor: opened)
        if fchmodat(holder, temporary, 0o600, 0) != 0 || renameat(holder, temporary, holder, name) != 0 {
            let code = errno
            unlinkat(holder, temporary, 0)
            throw IOError(call: "rename", path: path, code: code)
        }
        return socket
    }

    /// - Throws: `io` of connect(2): ENOENT for no such name, ECONNREFUSED when nobody listens any more.
    public static func connect(directory: String, name: String) throws(IOError) -> LocalSocket {
        let holder = try openHolder(directory)
        defer { close(holder) }
        let path = directory + "/" + name
        let opened = cl_unix_connect(holder, name)
        if opened == -ENOENT || opened == -ECONNREFUSED, let other = try connectAbstract(holder, path) { return other }
        if opened < 0 { throw IOError(call: "connect", path: path, code: -opened) }
        return LocalSocket(descriptor: opened)
    }

    /// The listener that found no room for a name in the directory; nil if there is none.
    ///
    /// Anybody can take an abstract name, so only one of the same user or of root is believed.
    private static func connectAbstract(_ holder: Int32, _ path: String) throws(IOError) -> LocalSocket? {
        let opened = cl_unix_connect_abstract(try abstractName(holder, path))
        if opened < 0 { return nil }
        let socket = LocalSocket(descriptor: opened)
        let user = try socket.peer().user
        return user == 0 || user == geteuid() ? socket : nil
    }

    /// A name for the socket of this directory: device and inode, which no rename changes, and the socket's own name.
    private static func abstractName(_ holder: Int32, _ path: String) throws(IOError) -> String {
        var info = stat()
        if fstat(holder, &info) != 0 { throw IOError(call: "fstat", path: path, code: errno) }
        return "replica-store/\(info.st_dev)-\(info.st_ino)/\(path.split(separator: "/").last ?? "")"
    }

    private static func openHolder(_ directory: String) throws(IOError) -> Int32 {
        let opened = cl_openat(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        if opened < 0 { throw IOError(call: "open", path: directory, code: -opened) }
        return opened
    }

    /// The next connection (accept4(2)). EINVAL after `shutDown`.
    public func accept() throws(IOError) -> LocalSocket {
        let accepted = cl_accept(descriptor)
        if accepted < 0 { throw IOError(call: "accept", path: "control socket", code: -accepted) }
        return LocalSocket(descriptor: accepted)
    }

    /// Wakes every thread that waits in `accept`, `read` or `waitReadable` (shutdown(2)).
    public func shutDown() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// Who is at the other end (SO_PEERCRED).
    public func peer() throws(IOError) -> (process: Int32, user: UInt32) {
        var process: Int32 = 0
        var user: UInt32 = 0
        let code = cl_peer(descriptor, &process, &user)
        if code < 0 { throw IOError(call: "getsockopt", path: "control socket", code: -code) }
        return (process, user)
    }

    /// Gives up writes that make no progress for `seconds`.
    public func setSendDeadline(seconds: Int32) { _ = cl_send_deadline(descriptor, seconds) }

    /// Waits for bytes or the end of the stream (poll(2)); false when `milliseconds` are over.
    public func waitReadable(milliseconds: Int32) -> Bool {
        Processes.waitReadable(descriptor, milliseconds: milliseconds)
    }

    /// What is there, at most `buffer.count` bytes (recv(2)); 0 at the end of the stream.
    public func read(into buffer: UnsafeMutableRawBufferPointer) throws(IOError) -> Int {
        while true {
            let got = recv(descriptor, buffer.baseAddress, buffer.count, 0)
            if got >= 0 { return got }
            if errno != EINTR { throw IOError(call: "recv", path: "control socket", code: errno) }
        }
    }

    /// All bytes (send(2) with MSG_NOSIGNAL).
    public func write(_ bytes: UnsafeRawBufferPointer) throws(IOError) {
        var done = 0
        while done < bytes.count {
            let sent = send(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, Int32(MSG_NOSIGNAL))
            if sent < 0 {
                if errno == EINTR { continue }
                throw IOError(call: "send", path: "control socket", code: errno)
            }
            done += sent
        }
    }

    public func write(_ bytes: [UInt8]) throws(IOError) {
        let result = bytes.withUnsafeBytes { bytes in Result { () throws(IOError) in try write(bytes) } }
        try result.get()
    }
}
