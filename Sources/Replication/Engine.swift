internal import Format
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
///
/// It takes requests of any offset and length, orders those that overlap, and merges the edges of those that are not
/// whole blocks: the old block is read, verified, and written back as a whole. Calls may come from any thread.
public final class Engine: VolumeView {
    /// What `create` makes.
    public struct Specification: Sendable {
        /// Bytes: a multiple of 4096, 4096 at least, 64 TiB at most.
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
    /// Whether the volume may change.
    public enum Mode: Sendable, Hashable { case readWrite, readOnly }

    /// Up to so many bytes of one write are all or nothing after a crash.
    public static let operationSizeLimit = 1 << 20

    let replica: Replica
    private let host: any Host
    private let mode: Mode
    private let locks = BlockLocks()
    private let counters = Guarded(EngineCounters())
    private let openedAt: WallTime
    private let allocation = Guarded<(bytes: UInt64, atNs: UInt64)?>(nil)

    private init(replica: Replica, host: any Host, mode: Mode) {
        self.replica = replica
        self.host = host
        self.mode = mode
        openedAt = host.wallClock()
    }

    /// Makes a replica in the empty or missing directory at `path`. If it fails, nothing is left behind.
    /// - Throws: `exists`, `invalid`, `noSpace`, `io`.
    public static func create(_ specification: Specification, path: String, host: any Host) throws(StoreError) {
        var isNew = true
        let directory: any Directory
        do throws(IOError) {
            do throws(IOError) {
                try host.createDirectory(path)
            } catch {
                if !error.exists { throw error }
                isNew = false
            }
            directory = try host.openDirectory(path)
        } catch {
            throw error.isNoSpace ? .noSpace(error) : .io(error)
        }
        do throws(StoreError) {
            try Replica.create(
                in: directory,
                Replica.Specification(
                    volume: host.newIdentifier(), size: specification.size, journalSize: specification.journalSize,
                    labels: specification.labels), host: host)
        } catch {
            if isNew { removeDirectory(path, host) }
            throw error
        }
        // The name itself is durable with its parent.
        if isNew, let parent = try? host.openDirectory(parentPath(path)) { try? parent.sync() }
    }

    private static func removeDirectory(_ path: String, _ host: any Host) {
        guard let name = path.split(separator: "/").last else { return }
        try? (try? host.openDirectory(parentPath(path)))?.removeDirectory(String(name))
    }

    private static func parentPath(_ path: String) -> String {
        let parts = path.split(separator: "/").dropLast()
        if parts.isEmpty { return path.hasPrefix("/") ? "/" : "." }
        return (path.hasPrefix("/") ? "/" : "") + parts.joined(separator: "/")
    }

    /// Opens the replica at `path`, recovers what a crash left, and starts its background work.
    /// - Throws: `notFound`, `inUse`, `unsupportedFormat`, `damagedMetadata`, `io`.
    public static func open(path: String, mode: Mode, host: any Host) throws(StoreError) -> Engine {
        let directory: any Directory
        do throws(IOError) {
            directory = try host.openDirectory(path)
        } catch {
            if error.isNotFound { throw .notFound(path) }
            throw .io(error)
        }
        let replica = try Replica.open(in: directory, readOnly: mode == .readOnly, host: host)
        return Engine(replica: replica, host: host, mode: mode)
    }

    public var identifier: Identifier { replica.volume }
    public var replicaIdentifier: Identifier { replica.identifier }
    public var labels: [String: String] { replica.labels }
    /// What `open` found.
    public var recovery: RecoveryReport { replica.recovery }
    /// Bytes.
    public var size: UInt64 { replica.size }

    // MARK: Data

    private func check(_ offset: UInt64, _ length: UInt64) throws(StoreError) {
        let size = size
        if offset > size || length > size - offset { throw .outOfRange(offset: offset, length: length, size: size) }
    }

    public func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreError) {
        try check(offset, UInt64(buffer.count))
        try BlockReader.read(replica, .head, at: offset, into: buffer)
        counters.withLock {
            $0.reads += 1
            $0.readBytes += UInt64(buffer.count)
        }
    }

    /// Writes any range inside the volume. Up to `operationSizeLimit` bytes are all or nothing after a crash.
    /// - Throws: `damagedBlocks` if an edge needs an old block that does not verify; `noSpace`, `replicaFailed`, `io`,
    ///   `outOfRange`, `readOnly`, `closed`.
    public func write(
        _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durability: Durability
    ) throws(StoreError) {
        try check(offset, UInt64(bytes.count))
        var done = 0
        while done < bytes.count {
            let count = min(bytes.count - done, Self.operationSizeLimit)
            let isLast = done + count == bytes.count
            // One flush covers all parts.
            try writePart(
                UnsafeRawBufferPointer(rebasing: bytes[done..<(done + count)]), at: offset + UInt64(done),
                isDurable: isLast && durability == .durable)
            done += count
        }
        counters.withLock {
            $0.writes += 1
            $0.writtenBytes += UInt64(bytes.count)
        }
    }

    private func writePart(
        _ bytes: UnsafeRawBufferPointer, at offset: UInt64, isDurable: Bool
    ) throws(StoreError) {
        let first = offset / blockSize64
        let end = (offset + UInt64(bytes.count) + blockSize64 - 1) / blockSize64
        let range = BlockRange(start: first, count: end - first)
        let headSkip = Int(offset % blockSize64)
        let tailCount = Int((offset + UInt64(bytes.count)) % blockSize64)
        let context = replica.takeContext()
        defer { replica.giveBack(context) }
        locks.lock(range)
        defer { locks.unlock(range) }
        if headSkip == 0 && tailCount == 0 {
            context.describeWrite(block: first, count: Int(range.count), isDurable: isDurable, bytes)
            return try replica.write(context)
        }
        let edges = context.edges
        let head = edges.part(0, blockSize)
        if range.count == 1 {
            try replica.read(.head, block: first, count: 1, into: edges.base, context)
            UnsafeMutableRawBufferPointer(rebasing: head[headSkip...]).copyMemory(from: bytes)
            context.describeWrite(block: first, count: 1, isDurable: isDurable, UnsafeRawBufferPointer(head))
            return try replica.write(context)
        }
        let tail = edges.part(blockSize, blockSize)
        var middle = 0..<bytes.count
        var parts: (UnsafeRawBufferPointer, UnsafeRawBufferPointer?, UnsafeRawBufferPointer?)
        if headSkip != 0 {
            try replica.read(.head, block: first, count: 1, into: edges.base, context)
            let taken = blockSize - headSkip
            UnsafeMutableRawBufferPointer(rebasing: head[headSkip...]).copyMemory(
                from: UnsafeRawBufferPointer(rebasing: bytes[0..<taken]))
            middle = taken..<bytes.count
        }
        if tailCount != 0 {
            try replica.read(.head, block: end - 1, count: 1, into: edges.base + blockSize, context)
            tail.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[(bytes.count - tailCount)...]))
            middle = middle.lowerBound..<(bytes.count - tailCount)
        }
        let whole = middle.isEmpty ? nil : UnsafeRawBufferPointer(rebasing: bytes[middle])
        if headSkip != 0 {
            parts = (UnsafeRawBufferPointer(head), whole, tailCount != 0 ? UnsafeRawBufferPointer(tail) : nil)
        } else if let whole {
            parts = (whole, UnsafeRawBufferPointer(tail), nil)
        } else {
            parts = (UnsafeRawBufferPointer(tail), nil, nil)
        }
        context.describeWrite(
            block: first, count: Int(range.count), isDurable: isDurable, parts.0, parts.1, parts.2)
        try replica.write(context)
    }

    /// Makes any range read as zeros. Whole blocks cost one record; the edges are written.
    public func empty(
        at offset: UInt64, length: UInt64, _ how: Emptying, durability: Durability
    ) throws(StoreError) {
        try check(offset, length)
        if length == 0 { return }
        let end = offset + length
        let firstWhole = (offset + blockSize64 - 1) / blockSize64
        let endWhole = end / blockSize64
        if firstWhole < endWhole {
            let range = BlockRange(start: firstWhole, count: endWhole - firstWhole)
            try writeZeros(from: offset, to: firstWhole * blockSize64)
            try writeZeros(from: endWhole * blockSize64, to: end)
            let context = replica.takeContext()
            defer { replica.giveBack(context) }
            locks.lock(range)
            defer { locks.unlock(range) }
            context.describeEmptying(range, isDiscard: how == .discard, isDurable: durability == .durable)
            try replica.empty(context)
        } else {
            try writeZeros(from: offset, to: end)
            if durability == .durable { try replica.flush() }
        }
        counters.withLock { $0.discards += 1 }
    }

    private func writeZeros(from start: UInt64, to end: UInt64) throws(StoreError) {
        var offset = start
        while offset < end {
            let count = Int(min(end - offset, blockSize64))
            try writePart(UnsafeRawBufferPointer(zeros.part(0, count)), at: offset, isDurable: false)
            offset += UInt64(count)
        }
    }

    private let zeros = ByteBuffer(count: blockSize)

    /// Reserves space for the range (fallocate mode 0) or throws `noSpace`.
    public func reserve(at offset: UInt64, length: UInt64) throws(StoreError) {
        try check(offset, length)
        if length == 0 { return }
        let first = offset / blockSize64
        let end = (offset + length + blockSize64 - 1) / blockSize64
        try replica.reserve(BlockRange(start: first, count: end - first))
    }

    /// Everything acknowledged before is durable when it returns.
    public func flush() throws(StoreError) {
        try replica.flush()
        counters.withLock { $0.flushes += 1 }
    }

    public func nextData(from offset: UInt64) throws(StoreError) -> UInt64? {
        let size = size
        return offset >= size ? nil : try replica.nextData(.head, from: offset, size: size)
    }

    public func nextHole(from offset: UInt64) throws(StoreError) -> UInt64 {
        let size = size
        return offset >= size ? size : try replica.nextHole(.head, from: offset, size: size)
    }

    public func extents(at offset: UInt64, length: UInt64, limit: Int) throws(StoreError) -> [MapExtent] {
        try check(offset, length)
        return length == 0 ? [] : try replica.extents(.head, at: offset, length: length, limit: limit)
    }

    /// Bytes that the live chain's files occupy; at most a second old, since every stat(2) of a mount asks for it.
    public func allocatedBytes() throws(StoreError) -> UInt64 {
        let now = host.monotonicNs()
        if let known = allocation.withLock({ $0 }), now < known.atNs + allocationAgeNs { return known.bytes }
        let bytes = try replica.allocatedBytes(.head)
        allocation.withLock { $0 = (bytes, now) }
        return bytes
    }

    /// Free and total bytes of the file system that holds the tightest replica.
    public func space() throws(StoreError) -> Space { try replica.space() }

    // MARK: Snapshots

    /// All visible snapshots, oldest first.
    public func snapshots() -> [SnapshotInfo] { replica.snapshots() }
    /// Changes whenever the list of snapshots may have changed.
    public var snapshotVersion: UInt64 { replica.snapshotVersion }

    /// - Throws: `invalid`, `exists`, `noSpace`, `refused`, `readOnly`, `io`.
    public func createSnapshot(name: String, labels: [String: String]) throws(StoreError) -> SnapshotInfo {
        try replica.createSnapshot(name: name, labels: labels)
    }

    /// Removes it from view at once; returns when its blocks were merged and its space is given back.
    public func deleteSnapshot(name: String, rate: UInt64?, progress: ProgressHandler?) throws(StoreError) {
        try replica.deleteSnapshot(name: name, rate: rate, progress: progress)
    }

    /// Makes the volume's content that of the snapshot.
    /// - Parameter keepHead: the name for a snapshot of the present content; nil discards it.
    public func revert(to name: String, keepHead: String?) throws(StoreError) {
        try replica.revert(to: name, keepHead: keepHead)
    }

    /// - Throws: `invalid`, `exists`, `notFound`, `readOnly`, `noSpace`, `io`.
    public func renameSnapshot(_ name: String, to newName: String) throws(StoreError) {
        try replica.renameSnapshot(name, to: newName)
    }

    /// A protected snapshot is not deleted until it is unprotected.
    /// - Throws: `notFound`, `readOnly`, `noSpace`, `io`.
    public func setProtected(_ name: String, _ isProtected: Bool) throws(StoreError) {
        try replica.setProtected(name, isProtected)
    }

    /// A view of the snapshot that stays valid, and byte-identical, until it is released.
    public func openSnapshot(name: String) throws(StoreError) -> any VolumeView {
        let (target, size) = try replica.openSnapshot(name: name)
        return SnapshotView(replica: replica, target: target, size: size)
    }

    /// The space of every layer, parents before children, the head last.
    public func usage() throws(StoreError) -> [LayerUsage] { try replica.usage() }

    /// Where the newer view (nil: the head) differs from the older one, in order.
    public func difference(from older: String, to newer: String?) throws(StoreError) -> [DiffExtent] {
        let first = try replica.openSnapshot(name: older)
        defer { replica.closeSnapshot(first.target) }
        guard let newer else { return try replica.difference(from: first.target, first.size, to: .head, size) }
        let second = try replica.openSnapshot(name: newer)
        defer { replica.closeSnapshot(second.target) }
        return try replica.difference(from: first.target, first.size, to: second.target, second.size)
    }

    // MARK: Care

    /// Changes the volume's size; what a shrink cuts off is gone.
    /// - Throws: `invalid`, `readOnly`, `noSpace`, `io`.
    public func resize(to size: UInt64) throws(StoreError) { try replica.resize(to: size) }

    /// - Parameter quick: metadata only.
    /// - Parameter rate: bytes a second, nil: as fast as it goes.
    public func verify(quick: Bool, rate: UInt64?, progress: ProgressHandler?) throws(StoreError) -> VerifyReport {
        try replica.verify(quick: quick, rate: rate, progress: progress)
    }

    /// Taken without waiting for any disk.
    public func status() -> EngineStatus {
        let figures = replica.figures
        var counters = counters.withLock { $0 }
        counters.journalBytes = figures.counters.journalBytes
        counters.directBytes = figures.counters.directBytes
        counters.checkpoints = figures.counters.checkpoints
        counters.checkpointBytes = figures.counters.checkpointBytes
        counters.damagedReads = figures.counters.damagedReads
        let state: String
        var cause: String?
        if let failure = figures.failure {
            state = "failed"
            cause = "\(failure); unmount, see to the disk, and mount again: what was flushed is whole"
        } else if figures.isFull {
            state = "full"
            cause = "the file system of \(replica.path) is full: writes that need room are refused until some is freed"
        } else if mode == .readOnly {
            state = "read-only"
            cause = "opened read-only"
        } else {
            state = "healthy"
        }
        return EngineStatus(
            state: state, cause: cause, volume: replica.volume, replica: replica.identifier,
            generation: replica.generation, size: size, revision: figures.revision,
            flushedRevision: figures.flushedRevision, checkpointRevision: figures.checkpointRevision,
            historyHash: figures.historyHash, layerCount: figures.layerCount, snapshotCount: figures.snapshotCount,
            journalSize: figures.journalSize, journalUsed: figures.journalUsed, overlayBlocks: figures.overlayBlocks,
            work: figures.work, counters: counters, openedAt: openedAt)
    }

    /// Drains the journal and finishes what waits in the background.
    public func settle() throws(StoreError) { try replica.settle() }

    /// Makes everything durable, drains the journal, marks the replica clean and lets it go.
    /// - Returns: false if a full disk kept the journal from being drained: nothing is lost, the next open takes it over.
    @discardableResult
    public func close() throws(StoreError) -> Bool { try replica.close() }
}

/// How old the answer of `allocatedBytes` may be.
private let allocationAgeNs: UInt64 = 1_000_000_000
