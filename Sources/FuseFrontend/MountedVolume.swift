public import Primitives

/// What a mount serves: one volume, its snapshots, its state.
///
/// Calls come from the mount's workers, several at a time, and never with a lock of the frontend held.
public protocol MountedVolume: AnyObject, Sendable {
    /// The live volume; the same object for as long as the mount lasts.
    var live: any MountedImage { get }
    /// A number that changes when a snapshot appears, goes or gets another name. Cheap; asked at each path look-up.
    var snapshotChanges: UInt64 { get }
    /// All visible snapshots, in the order in which they are listed.
    func snapshots() throws(MountError) -> [MountedSnapshot]
    /// A view that stays valid, and byte-identical, until its last reference goes, also when the snapshot is deleted.
    /// - Throws: ENOENT when there is none of that name.
    func openSnapshot(named name: String) throws(MountError) -> any MountedImage
    /// Free and total bytes, for statfs(2).
    func space() throws(MountError) -> MountedSpace
    /// The text of `.replica/status` or `.replica/stats`. It waits for no disk and no peer.
    func document(_ which: MountedDocument) -> [UInt8]
}

/// A range of bytes of a fixed size. Ranges that are asked for lie inside, at any alignment.
public protocol MountedImage: AnyObject, Sendable {
    /// Bytes.
    var size: UInt64 { get }
    /// Fills `buffer`; what was never written reads as zeros.
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(MountError)
    /// Stores `bytes`. With `durable` they, and all that was acknowledged before, survive a power cut when it returns.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool) throws(MountError)
    /// Makes the range read as zeros.
    func empty(at offset: UInt64, length: UInt64, _ how: MountedEmptying, durable: Bool) throws(MountError)
    /// Makes sure that later writes of the range find space.
    /// - Throws: ENOSPC.
    func reserve(at offset: UInt64, length: UInt64) throws(MountError)
    /// Makes everything that was acknowledged before durable.
    func flush() throws(MountError)
    /// The first offset at or behind `offset` that holds data, nil when there is none.
    func nextData(from offset: UInt64) throws(MountError) -> UInt64?
    /// The first offset at or behind `offset` that holds none, the size at the latest.
    func nextHole(from offset: UInt64) throws(MountError) -> UInt64
    /// Bytes that the image occupies.
    func allocatedBytes() throws(MountError) -> UInt64
}

/// How a range is emptied: fallocate(2) with PUNCH_HOLE gives its space back, with ZERO_RANGE need not.
public enum MountedEmptying: Sendable, Hashable { case discard, zero }

/// The files of `.replica`.
public enum MountedDocument: String, Sendable, Hashable, CaseIterable { case status, stats }

/// One snapshot, as `snapshots` lists it.
public struct MountedSnapshot: Sendable, Hashable {
    /// One path component: not empty, no `/`, no zero byte, at most 255 bytes.
    public var name: String
    /// Stays through a rename; another one when a snapshot of the same name is made anew.
    public var identity: Identifier
    /// Nanoseconds since 1970.
    public var createdNs: Int64
    /// Bytes.
    public var size: UInt64

    public init(name: String, identity: Identifier, createdNs: Int64, size: UInt64) {
        self.name = name
        self.identity = identity
        self.createdNs = createdNs
        self.size = size
    }
}

/// Bytes of the file system that the volume is kept on.
public struct MountedSpace: Sendable, Hashable {
    public var available: UInt64
    public var total: UInt64
    public init(available: UInt64, total: UInt64) {
        self.available = available
        self.total = total
    }
}

/// A request that failed, as the caller of the system call sees it.
public struct MountError: Error, Hashable, Sendable {
    /// An errno value of Linux, 1...999.
    public var errno: Int32
    public init(errno: Int32) { self.errno = errno }
}
