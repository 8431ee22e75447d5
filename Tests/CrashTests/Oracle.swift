import Primitives
import SimulatedHost

/// The volume at one moment, block by block, each by the hash of its bytes.
struct Picture: Sendable, Hashable {
    var size: UInt64
    var blocks: [UInt64]

    static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt64 { hash64(bytes, seed: 77) }

    init(_ bytes: [UInt8]) {
        size = UInt64(bytes.count)
        blocks = bytes.withUnsafeBytes { bytes in
            stride(from: 0, to: bytes.count, by: blockSize).map { start in
                Self.hash(UnsafeRawBufferPointer(rebasing: bytes[start..<(start + blockSize)]))
            }
        }
    }

    /// The same with the blocks of a range of bytes taken anew from `bytes`.
    func changed(_ bytes: [UInt8], offset: UInt64, length: UInt64) -> Picture {
        var next = self
        if length == 0 { return next }
        bytes.withUnsafeBytes { bytes in
            for block in Int(offset / blockSize64)...Int((offset + length - 1) / blockSize64) {
                let start = block * blockSize
                next.blocks[block] = Self.hash(UnsafeRawBufferPointer(rebasing: bytes[start..<(start + blockSize)]))
            }
        }
        return next
    }

    /// Where the two differ, for a message.
    func difference(_ other: Picture) -> String {
        if size != other.size { return "sizes \(size) and \(other.size)" }
        let blocks = blocks.indices.filter { self.blocks[$0] != other.blocks[$0] }
        return "\(blocks.count) blocks differ: \(blocks.prefix(12).map(String.init).joined(separator: " "))"
    }
}

/// What the volume must be, by a flat array and a list of the moments that it went through.
///
/// Invariants
/// 1. `moments` has the volume after each operation, in order; the last one is that of `live`.
/// 2. A reopened volume may be at any moment from `flushed` on, or at `running`, and nowhere else.
struct Oracle: Sendable {
    struct Moment: Sendable {
        var revision: UInt64
        var picture: Picture
        var note: String
    }

    struct Snapshot: Sendable, Hashable {
        var picture: Picture
        var isProtected = false
    }

    var live: [UInt8]
    private(set) var moments: [Moment]
    /// The place in `moments` that nothing may fall behind.
    private(set) var flushed = 0
    /// What the operation now running, or one whose end is unknown, would lead to.
    var running: [Picture] = []
    /// Snapshots whose making was acknowledged and whose removal was not asked for.
    private(set) var snapshots: [String: Snapshot] = [:]
    /// Snapshots that may or may not be there, because the operation on them is running.
    var unsure: [String: Snapshot] = [:]

    init(size: UInt64, revision: UInt64) {
        live = [UInt8](repeating: 0, count: Int(size))
        moments = [Moment(revision: revision, picture: Picture(live), note: "made")]
    }

    /// Goes on from what a recovery found.
    init(live: [UInt8], revision: UInt64, snapshots: [String: Snapshot]) {
        self.live = live
        self.snapshots = snapshots
        moments = [Moment(revision: revision, picture: Picture(live), note: "recovered")]
    }

    var now: Moment { moments[moments.count - 1] }
    var flushedRevision: UInt64 { moments[flushed].revision }
    var size: UInt64 { UInt64(live.count) }

    mutating func acknowledge(_ picture: Picture, revision: UInt64, note: String) {
        moments.append(Moment(revision: revision, picture: picture, note: note))
        running = []
        unsure = [:]
    }

    mutating func acknowledgeFlush() { flushed = moments.count - 1 }

    mutating func keep(_ name: String, _ snapshot: Snapshot) { snapshots[name] = snapshot }
    mutating func drop(_ name: String) { snapshots[name] = nil }

    /// Says what is wrong with a reopened volume's content, or nil.
    func fault(_ found: Picture, revision: UInt64) -> String? {
        if revision < flushedRevision {
            return "revision \(revision) is behind the flushed \(flushedRevision)"
        }
        if revision > now.revision {
            if running.contains(found) { return nil }
            if running.isEmpty { return "revision \(revision) is beyond the last, \(now.revision)" }
            return "revision \(revision) is not what the running operation makes: "
                + (running.last.map { found.difference($0) } ?? "") + "; against the moment before: "
                + found.difference(now.picture)
        }
        // Operations without a revision of their own share one with the operation before them.
        let candidates = moments[flushed...].filter { $0.revision == revision }
        if candidates.contains(where: { $0.picture == found }) { return nil }
        if revision == now.revision && running.contains(found) { return nil }
        guard let candidate = candidates.last else { return "revision \(revision) was never reached" }
        let others = moments.indices.filter { moments[$0].picture == found }.map { "\(moments[$0].revision)" }
        let place = others.isEmpty ? "of no moment" : "that of revision " + others.joined(separator: ", ")
        return "revision \(revision) (\(candidate.note)) has other content, \(place): "
            + found.difference(candidate.picture)
    }
}
