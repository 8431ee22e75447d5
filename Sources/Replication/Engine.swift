public import Format
public import HostIO
public import Primitives
public import Storage

/// When a write is acknowledged.
public enum Durability: Sendable, Hashable {
    /// In the store: a killed process loses nothing, a power cut what was not flushed.
    case ordinary
    /// On the device, as after a flush (O_DSYNC, FUA).
    case durable
}

/// How a range is emptied. Both read as zeros for ever after.
public enum Emptying: Sendable, Hashable { case discard, zero }

/// A volume: one engine over its replicas (one, in this version).
public final class Engine: VolumeView {
    /// What `create` makes.
    public struct Specification: Sendable {
        /// Bytes: a multiple of 4096, 4096 at least, `volumeSizeLimit` at most.
        public var size: UInt64
        /// Bytes of the journal; nil: by the size of the volume.
        public var journalSize: UInt64?
        public var labels: [String: String] = [:]
        public init(size: UInt64, journalSize: UInt64? = nil, labels: [String: String] = [:]) {
            self.size = size
            self.journalSize = journalSize
            self.labels = labels
        }
    }
    public enum Mode: Sendable, Hashable { case readWrite, readOnly }

    /// Makes a replica in the empty or missing directory at `path`.
    /// - Throws: `exists`, `invalid`, `noSpace`, `io`.
    public static func create(_ specification: Specification, path: String, host: any Host) throws(StoreError) { fatalError() }

    /// Opens the replica at `path`, recovers what a crash left, and starts its background work.
    /// - Throws: `notFound`, `inUse`, `unsupportedFormat`, `damagedMetadata`, `replicaFailed`, `io`.
    public static func open(path: String, mode: Mode, host: any Host) throws(StoreError) -> Engine { fatalError() }

    public var identifier: Identifier { fatalError() }
    public var replicaIdentifier: Identifier { fatalError() }
    public var labels: [String: String] { fatalError() }
    public var recovery: RecoveryReport { fatalError() }
    public var size: UInt64 { fatalError() }

    // Data
    public func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreError) { fatalError() }
    /// Any offset and length inside the volume. Up to `operationSizeLimit` bytes are all or nothing after a crash.
    public func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, durability: Durability) throws(StoreError) { fatalError() }
    public func empty(at offset: UInt64, length: UInt64, _ how: Emptying, durability: Durability) throws(StoreError) { fatalError() }
    /// Reserves space for the range (fallocate mode 0) or throws `noSpace`.
    public func reserve(at offset: UInt64, length: UInt64) throws(StoreError) { fatalError() }
    /// Everything acknowledged before is durable when it returns.
    public func flush() throws(StoreError) { fatalError() }
    public func nextData(from offset: UInt64) throws(StoreError) -> UInt64? { fatalError() }
    public func nextHole(from offset: UInt64) throws(StoreError) -> UInt64 { fatalError() }
    public func extents(at offset: UInt64, length: UInt64, limit: Int) throws(StoreError) -> [MapExtent] { fatalError() }
    public func allocatedBytes() throws(StoreError) -> UInt64 { fatalError() }
    /// Free and total bytes of the file system that holds the tightest replica.
    public func space() throws(StoreError) -> Space { fatalError() }

    // Snapshots
    /// All visible snapshots, oldest first.
    public func snapshots() -> [SnapshotInfo] { fatalError() }
    public func createSnapshot(name: String, labels: [String: String]) throws(StoreError) -> SnapshotInfo { fatalError() }
    /// Removes it from view at once; returns when its blocks were merged and its space is given back.
    public func deleteSnapshot(name: String, rate: UInt64?, progress: ProgressHandler?) throws(StoreError) { fatalError() }
    /// Makes the volume's content that of the snapshot.
    /// - Parameter keepHead: the name for a snapshot of the present content; nil discards it.
    public func revert(to name: String, keepHead: String?) throws(StoreError) { fatalError() }
    public func renameSnapshot(_ name: String, to newName: String) throws(StoreError) { fatalError() }
    public func setProtected(_ name: String, _ isProtected: Bool) throws(StoreError) { fatalError() }
    /// A view of the snapshot that stays valid, and byte-identical, until it is released.
    public func openSnapshot(name: String) throws(StoreError) -> any VolumeView { fatalError() }
    /// The space of every layer, oldest first, the head last.
    public func usage() throws(StoreError) -> [LayerUsage] { fatalError() }
    /// Where the newer view (nil: the head) differs from the older one, in order.
    public func difference(from older: String, to newer: String?) throws(StoreError) -> [DiffExtent] { fatalError() }

    // Care
    public func resize(to size: UInt64) throws(StoreError) { fatalError() }
    /// - Parameter quick: metadata only.
    /// - Parameter rate: bytes a second, nil: as fast as it goes.
    public func verify(quick: Bool, rate: UInt64?, progress: ProgressHandler?) throws(StoreError) -> VerifyReport { fatalError() }
    public func status() -> EngineStatus { fatalError() }
    /// Makes everything durable, drains the journal, marks the replica clean and lets it go.
    public func close() throws(StoreError) { fatalError() }
}
