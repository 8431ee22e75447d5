import FuseFrontend
import HostIO
import Primitives
import Replication
import Storage

/// The engine as the mount sees it.
final class MountAdapter: MountedVolume {
    let live: any MountedImage
    private let engine: Engine
    /// What stands in `.replica/status` beside the engine's own state.
    private let service: JSON

    /// - Parameter snapshot: what `volume` shows instead of the head.
    /// - Throws: `notFound` for no such snapshot.
    init(engine: Engine, snapshot: String?, path: String, service: JSON) throws(ToolError) {
        self.engine = engine
        self.service = service
        if let snapshot {
            let view = try during("cannot mount \(path)@\(snapshot)") { () throws(StoreError) in
                try engine.openSnapshot(name: snapshot)
            }
            live = ViewImage(view)
        } else {
            live = EngineImage(engine)
        }
    }

    var snapshotChanges: UInt64 { engine.snapshotVersion }

    func snapshots() throws(MountError) -> [MountedSnapshot] {
        engine.snapshots().map {
            let createdNs = $0.created.seconds * 1_000_000_000 + Int64($0.created.nanoseconds)
            // Not its layer: a merge can move a snapshot into the layer of the deleted one below it, and the kernel
            // would go on with the pages that it holds of that one.
            let identity = Identifier(high: $0.revision, low: UInt64(bitPattern: createdNs))
            return MountedSnapshot(name: $0.name, identity: identity, createdNs: createdNs, size: $0.size)
        }
    }

    func openSnapshot(named name: String) throws(MountError) -> any MountedImage {
        ViewImage(try mounting { () throws(StoreError) in try engine.openSnapshot(name: name) })
    }

    func space() throws(MountError) -> MountedSpace {
        let space = try mounting(engine.space)
        return MountedSpace(available: space.available, total: space.total)
    }

    func document(_ which: MountedDocument) -> [UInt8] {
        let status = engine.status()
        let json: JSON =
            switch which {
            case .status: .document(status.json.adding("served", service))
            case .stats: .document(status.counters.json)
            }
        return Array((json.pretty + "\n").utf8)
    }
}

/// Runs `body`; what it throws becomes an errno by the one table.
@inline(__always)
private func mounting<Result>(_ body: () throws(StoreError) -> Result) throws(MountError) -> Result {
    do {
        return try body()
    } catch {
        throw MountError(errno: errnoCode(for: error))
    }
}

/// The live volume.
private final class EngineImage: MountedImage {
    private let engine: Engine
    init(_ engine: Engine) { self.engine = engine }

    var size: UInt64 { engine.size }
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(MountError) {
        try mounting { () throws(StoreError) in try engine.read(at: offset, into: buffer) }
    }
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool) throws(MountError) {
        try mounting { () throws(StoreError) in
            try engine.write(bytes, at: offset, durability: durable ? .durable : .ordinary)
        }
    }
    func empty(at offset: UInt64, length: UInt64, _ how: MountedEmptying, durable: Bool) throws(MountError) {
        let emptying: Emptying = how == .discard ? .discard : .zero
        try mounting { () throws(StoreError) in
            try engine.empty(at: offset, length: length, emptying, durability: durable ? .durable : .ordinary)
        }
    }
    func reserve(at offset: UInt64, length: UInt64) throws(MountError) {
        try mounting { () throws(StoreError) in try engine.reserve(at: offset, length: length) }
    }
    func flush() throws(MountError) { try mounting(engine.flush) }
    func nextData(from offset: UInt64) throws(MountError) -> UInt64? {
        try mounting { () throws(StoreError) in try engine.nextData(from: offset) }
    }
    func nextHole(from offset: UInt64) throws(MountError) -> UInt64 {
        try mounting { () throws(StoreError) in try engine.nextHole(from: offset) }
    }
    func allocatedBytes() throws(MountError) -> UInt64 { try mounting(engine.allocatedBytes) }
}

/// A snapshot: it can be read.
private final class ViewImage: MountedImage {
    private let view: any VolumeView
    init(_ view: any VolumeView) { self.view = view }

    private var refused: MountError { MountError(errno: errnoCode(for: .readOnly("a snapshot"))) }
    var size: UInt64 { view.size }
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(MountError) {
        try mounting { () throws(StoreError) in try view.read(at: offset, into: buffer) }
    }
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool) throws(MountError) { throw refused }
    func empty(at offset: UInt64, length: UInt64, _ how: MountedEmptying, durable: Bool) throws(MountError) {
        throw refused
    }
    func reserve(at offset: UInt64, length: UInt64) throws(MountError) { throw refused }
    func flush() throws(MountError) {}
    func nextData(from offset: UInt64) throws(MountError) -> UInt64? {
        try mounting { () throws(StoreError) in try view.nextData(from: offset) }
    }
    func nextHole(from offset: UInt64) throws(MountError) -> UInt64 {
        try mounting { () throws(StoreError) in try view.nextHole(from: offset) }
    }
    func allocatedBytes() throws(MountError) -> UInt64 { try mounting(view.allocatedBytes) }
}
