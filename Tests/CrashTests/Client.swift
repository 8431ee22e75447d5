import HostIO
import Primitives
import Replication
import SimulatedHost
import Storage

/// A client of one volume that knows what the volume must be.
///
/// The oracle is brought up to date around each operation: before it, with what it would lead to; after it, with what
/// it led to. A hook that looks in between, at any step, finds what a power cut may leave.
final class Client: @unchecked Sendable {
    static let path = "/store/replica"

    let host: SimulatedHost
    private(set) var engine: Engine
    var oracle: Oracle
    /// The operations so far, for a message.
    private(set) var log: [String] = []

    /// A client of a volume that is open, and whose content is what the oracle says.
    init(host: SimulatedHost, engine: Engine, oracle: Oracle) {
        self.host = host
        self.engine = engine
        self.oracle = oracle
    }

    /// A host with a new volume of `blocks` blocks, durable, beside a file that the store has no business with.
    static func madeHost(blocks: UInt64, seed: UInt64, hasThreads: Bool = false) throws -> SimulatedHost {
        var options = SimulatedHost.Options(seed: seed)
        options.hasThreads = hasThreads
        let host = SimulatedHost(options)
        try host.createDirectory("/store")
        let store = try host.openDirectory("/store")
        let bystander = try store.open("bystander", .create)
        let text = Array("not of this store".utf8)
        try text.withUnsafeBytes { try bystander.write($0, at: 0) }
        try bystander.sync()
        try store.sync()
        try host.openDirectory("/").sync()
        try Engine.create(
            Engine.Specification(size: blocks * blockSize64, journalSize: journalSize), path: path, host: host)
        return host
    }

    static let journalSize: UInt64 = 4 << 20

    /// Opens the volume of `madeHost`.
    convenience init(_ host: SimulatedHost) throws {
        let engine = try Engine.open(path: Self.path, mode: .readWrite, host: host)
        self.init(host: host, engine: engine, oracle: Oracle(size: engine.size, revision: engine.status().revision))
    }

    /// Does one operation and checks what it promises at once.
    /// - Throws: what the store threw, after which the operation may or may not have happened, by the oracle; or
    ///   `Violation`.
    func perform(_ operation: Operation) throws {
        log.append("\(operation)")
        switch operation {
        case .write(let offset, let count, let fill, let durability):
            var bytes = [UInt8](repeating: 0, count: count)
            var random = Generator(seed: fill)
            bytes.withUnsafeMutableBytes { random.fill($0) }
            let range = Int(offset)..<(Int(offset) + count)
            try change([range], bytes, durability, "\(operation)") {
                try bytes.withUnsafeBytes { try engine.write($0, at: offset, durability: durability) }
            }
        case .empty(let offset, let length, let how, let durability):
            try change(Self.stages(offset, length), nil, durability, "\(operation)") {
                try engine.empty(at: offset, length: length, how, durability: durability)
            }
        case .flush:
            try engine.flush()
            oracle.acknowledgeFlush()
        case .createSnapshot(let name):
            oracle.unsure = [name: Oracle.Snapshot(picture: oracle.now.picture)]
            // It may take a revision, at which the content is the same.
            oracle.running = [oracle.now.picture]
            _ = try engine.createSnapshot(name: name, labels: ["test": name])
            let picture = oracle.now.picture
            settle(picture, "\(operation)")
            oracle.keep(name, Oracle.Snapshot(picture: picture))
        case .deleteSnapshot(let name):
            oracle.unsure[name] = oracle.snapshots[name]
            let kept = oracle.snapshots[name]
            oracle.drop(name)
            do {
                try engine.deleteSnapshot(name: name, rate: nil, progress: nil)
            } catch {
                // It had no effect unless it says otherwise; the check looks at `unsure` for both.
                if let kept, engine.snapshots().contains(where: { $0.name == name }) { oracle.keep(name, kept) }
                throw error
            }
            oracle.unsure = [:]
        case .revert(let name, let keep):
            guard let target = oracle.snapshots[name] else { throw Violation("the workload reverts to \(name)") }
            let before = oracle.now.picture
            oracle.running = [target.picture]
            if let keep { oracle.unsure = [keep: Oracle.Snapshot(picture: before)] }
            try engine.revert(to: name, keepHead: keep)
            oracle.live = try Self.read(engine, size: target.picture.size)
            if Picture(oracle.live) != target.picture {
                throw Violation("after the revert: \(Picture(oracle.live).difference(target.picture))")
            }
            settle(target.picture, "\(operation)")
            if let keep { oracle.keep(keep, Oracle.Snapshot(picture: before)) }
        case .rename(let name, let other):
            guard let snapshot = oracle.snapshots[name] else { throw Violation("the workload renames \(name)") }
            oracle.unsure = [name: snapshot, other: snapshot]
            oracle.drop(name)
            try engine.renameSnapshot(name, to: other)
            oracle.unsure = [:]
            oracle.keep(other, snapshot)
        case .resize(let size):
            var next = oracle.live
            if size < oracle.size {
                next.removeLast(next.count - Int(size))
            } else {
                next += [UInt8](repeating: 0, count: Int(size) - next.count)
            }
            let picture = Picture(next)
            oracle.running = [picture]
            if size < oracle.size {
                // What a shrink cuts off is zeroed before the size changes, and a power cut may come between.
                var zeroed = oracle.live
                zeroed.replaceSubrange(Int(size)..., with: repeatElement(0, count: zeroed.count - Int(size)))
                oracle.running.append(Picture(zeroed))
            }
            try engine.resize(to: size)
            oracle.live = next
            settle(picture, "\(operation)")
            if engine.size != size { throw Violation("resized to \(size), it is of \(engine.size) bytes") }
        case .reserve(let offset, let length):
            try engine.reserve(at: offset, length: length)
        case .look:
            let found = Picture(try Self.read(engine, size: oracle.size))
            if found != oracle.now.picture {
                throw Violation("it reads wrong: \(found.difference(oracle.now.picture))")
            }
        case .pass(let ns):
            host.advance(ns: ns)
            // What threads would do in that time.
            try engine.settle()
        case .reopen:
            try engine.close()
            // What was acknowledged before a close in order is durable.
            oracle.acknowledgeFlush()
            engine = try Engine.open(path: Self.path, mode: .readWrite, host: host)
            if engine.recovery.outcome != .clean {
                throw Violation("closed in order, it opens as \(engine.recovery.outcome.rawValue)")
            }
        }
    }

    /// Checks what the store says of a request that found no room: it changed nothing. Emptying a range whose ends lie
    /// inside blocks is several requests, and the first ones may have been done.
    func expectRefused(_ operation: Operation) throws {
        let running = oracle.running
        oracle.running = []
        let live = try Self.read(engine, size: oracle.size)
        let found = Picture(live)
        if found == oracle.now.picture { return }
        if case .empty = operation, running.contains(found) {
            oracle.live = live
            oracle.acknowledge(found, revision: engine.status().revision, note: "\(operation), in part")
            return
        }
        throw Violation("refused, \(operation) has changed: \(found.difference(oracle.now.picture))")
    }

    /// The ranges that an emptying changes one after the other, each whole or not at all: the parts of blocks at its
    /// ends, then the whole blocks between them.
    private static func stages(_ offset: UInt64, _ length: UInt64) -> [Range<Int>] {
        let (start, end) = (Int(offset), Int(offset + length))
        let firstWhole = (start + blockSize - 1) / blockSize * blockSize
        let endWhole = end / blockSize * blockSize
        if firstWhole < endWhole {
            return [start..<firstWhole, endWhole..<end, firstWhole..<endWhole].filter { !$0.isEmpty }
        }
        return stride(from: start, to: end, by: blockSize).map { $0..<min($0 + blockSize, end) }
    }

    /// A change of bytes, in one stage or several: before it is done, the oracle allows for each.
    /// - Parameter bytes: those of the only stage; nil for zeros.
    private func change(
        _ stages: [Range<Int>], _ bytes: [UInt8]?, _ durability: Durability, _ note: String, _ body: () throws -> Void
    ) throws {
        var next = oracle.live
        var pictures: [Picture] = []
        for range in stages {
            if let bytes {
                next.replaceSubrange(range, with: bytes)
            } else {
                next.replaceSubrange(range, with: repeatElement(0, count: range.count))
            }
            pictures.append(
                (pictures.last ?? oracle.now.picture).changed(
                    next, offset: UInt64(range.lowerBound), length: UInt64(range.count)))
        }
        oracle.running = pictures
        let before = engine.status().revision
        try body()
        oracle.live = next
        let after = engine.status().revision
        guard let last = pictures.popLast() else { return }
        // A stage has a revision of its own, at which a recovery may stop.
        if after - before == UInt64(pictures.count + 1) {
            for (index, picture) in pictures.enumerated() {
                oracle.acknowledge(picture, revision: before + UInt64(index + 1), note: "\(note), part \(index + 1)")
            }
        }
        oracle.acknowledge(last, revision: after, note: note)
        if durability == .durable { oracle.acknowledgeFlush() }
    }

    /// A change of the chain is durable when it is acknowledged, and everything before it.
    private func settle(_ picture: Picture, _ note: String) {
        oracle.acknowledge(picture, revision: engine.status().revision, note: note)
        oracle.acknowledgeFlush()
    }

    /// The whole volume or snapshot.
    static func read(_ view: any VolumeView, size: UInt64) throws(StoreError) -> [UInt8] {
        let buffer = ByteBuffer(count: Int(size))
        var done = 0
        while done < buffer.count {
            let part = min(buffer.count - done, 1 << 20)
            try view.read(at: UInt64(done), into: buffer.part(done, part))
            done += part
        }
        return Array(buffer.readable)
    }
}

/// The store did what it must not.
struct Violation: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}
