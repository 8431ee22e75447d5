public import Primitives

/// Everything that the store asks of the machine: files, time and randomness.
///
/// The store receives one of these at its edge and nothing below asks the system directly, so that a double can stand
/// here: it keeps what is durable apart from what is only written, fails any call, and loses power at any step.
public protocol Host: AnyObject, Sendable {
    /// Opens a directory by path. Throws ENOENT, ENOTDIR, EACCES, …
    func openDirectory(_ path: String) throws(IOError) -> any Directory
    /// mkdir(2), mode 0700. The name is durable once the parent is synced.
    func createDirectory(_ path: String) throws(IOError)
    /// Nanoseconds of a clock that never goes back (CLOCK_MONOTONIC).
    func monotonicNs() -> UInt64
    /// Seconds and nanoseconds since 1970, for display only.
    func wallClock() -> WallTime
    /// 64 random bits.
    func random64() -> UInt64
    /// Starts a thread that runs `body`, or says that this host has none: then the store does background work inside
    /// the calls that need it.
    func startThread(name: String, _ body: @escaping @Sendable () -> Void) -> Bool
}

extension Host {
    /// A new random identifier.
    public func newIdentifier() -> Identifier { Identifier(random: random64(), random64()) }
}

/// A moment since 1970-01-01 in UTC. It is shown, and never decides anything.
public struct WallTime: Hashable, Sendable {
    public var seconds: Int64
    public var nanoseconds: Int32
    public init(seconds: Int64, nanoseconds: Int32) {
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }
}

/// What a name in a directory is.
public enum EntryKind: Sendable, Hashable { case file, directory, other }

/// One name of a directory.
public struct DirectoryEntry: Sendable, Hashable {
    public var name: String
    public var kind: EntryKind
    public init(name: String, kind: EntryKind) {
        self.name = name
        self.kind = kind
    }
}

/// How a file is opened.
public enum FileAccess: Sendable, Hashable {
    /// It must exist; only reads.
    case readOnly
    /// It must exist.
    case readWrite
    /// It must not exist (O_EXCL); mode 0600.
    case create
}

/// Free and total bytes of a file system, for an ordinary user.
public struct Space: Sendable, Hashable {
    public var available: UInt64
    public var total: UInt64
    public init(available: UInt64, total: UInt64) {
        self.available = available
        self.total = total
    }
}

/// An open directory. Names are single components; links are not followed.
public protocol Directory: AnyObject, Sendable {
    var path: String { get }
    /// openat(2) with O_NOFOLLOW. Only regular files are opened: anything else throws EINVAL.
    func open(_ name: String, _ access: FileAccess) throws(IOError) -> any File
    func openDirectory(_ name: String) throws(IOError) -> any Directory
    /// mkdirat(2), mode 0700.
    func createDirectory(_ name: String) throws(IOError)
    /// unlinkat(2) of a file.
    func remove(_ name: String) throws(IOError)
    /// unlinkat(2) with AT_REMOVEDIR.
    func removeDirectory(_ name: String) throws(IOError)
    /// renameat(2); replaces the target.
    func rename(_ name: String, to newName: String) throws(IOError)
    /// Every name except `.` and `..`, sorted by bytes.
    func list() throws(IOError) -> [DirectoryEntry]
    /// fsync(2) of the directory: names created, removed and renamed before are durable after it.
    func sync() throws(IOError)
    func space() throws(IOError) -> Space
}

/// An open regular file. Calls may come from several threads. A written byte is visible to every reader at once, and
/// durable only after a later `sync` or `syncData` returned.
public protocol File: AnyObject, Sendable {
    var path: String { get }
    /// Apparent size in bytes.
    func size() throws(IOError) -> UInt64
    /// Bytes that the file occupies (st_blocks).
    func allocated() throws(IOError) -> UInt64
    /// Reads up to `buffer.count` bytes at `offset` (pread(2)); fewer only at the end of the file.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(IOError) -> Int
    /// Writes all bytes (pwrite(2), repeated after a short write). After an error, part may be written.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(IOError)
    /// Writes the parts one behind the other (pwritev(2)).
    func write(parts: UnsafeBufferPointer<UnsafeRawBufferPointer>, at offset: UInt64) throws(IOError)
    /// fdatasync(2). A failure is final: it is not tried again on this file.
    func syncData() throws(IOError)
    /// fsync(2). A failure is final.
    func sync() throws(IOError)
    /// FALLOC_FL_PUNCH_HOLE: the bytes read as zeros and occupy nothing.
    func punch(offset: UInt64, count: UInt64) throws(IOError)
    /// Reserves space without changing the size or any byte (FALLOC_FL_KEEP_SIZE).
    func reserve(offset: UInt64, count: UInt64) throws(IOError)
    func truncate(to size: UInt64) throws(IOError)
    /// The first byte at or behind `offset` that is data, or nil (SEEK_DATA).
    func nextData(from offset: UInt64) throws(IOError) -> UInt64?
    /// The first byte at or behind `offset` that is in a hole, or the size (SEEK_HOLE); nil at or past the end.
    func nextHole(from offset: UInt64) throws(IOError) -> UInt64?
    /// Takes the exclusive lock of this open file (F_OFD_SETLK) until it is closed; throws EAGAIN if another holds it.
    func lock() throws(IOError)
    /// A second handle whose reads come from the device and not from memory (O_DIRECT); `self` where there is none.
    func uncached() throws(IOError) -> any File
}

extension File {
    /// Reads exactly `buffer.count` bytes; bytes behind the end of the file read as zeros.
    public func readPadded(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(IOError) {
        var done = 0
        while done < buffer.count {
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
            let got = try read(into: part, at: offset + UInt64(done))
            if got == 0 { break }
            done += got
        }
        if done < buffer.count { UnsafeMutableRawBufferPointer(rebasing: buffer[done...]).zero() }
    }

    /// The whole file, which must not be larger than `limit` bytes: EFBIG otherwise.
    public func readAll(limit: Int) throws(IOError) -> [UInt8] {
        let count = try size()
        guard count <= UInt64(limit) else { throw IOError(call: "read", path: path, code: 27) }
        let buffer = ByteBuffer(count: Int(count))
        let got = try readUpTo(buffer.bytes)
        return Array(buffer.readable[0..<got])
    }

    private func readUpTo(_ buffer: UnsafeMutableRawBufferPointer) throws(IOError) -> Int {
        var done = 0
        while done < buffer.count {
            let got = try read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[done...]), at: UInt64(done))
            if got == 0 { break }
            done += got
        }
        return done
    }
}
