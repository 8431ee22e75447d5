import Primitives
import Replication
import SimulatedHost
import Storage

/// One thing that a client does.
enum Operation: Sendable, CustomStringConvertible {
    case write(offset: UInt64, count: Int, fill: UInt64, Durability)
    case empty(offset: UInt64, length: UInt64, Emptying, Durability)
    case flush
    case createSnapshot(String)
    case deleteSnapshot(String)
    case revert(to: String, keep: String?)
    case rename(String, to: String)
    case resize(UInt64)
    case reserve(offset: UInt64, length: UInt64)
    /// Compares the live volume with the oracle.
    case look
    /// Time passes; a store without threads works inside the next call.
    case pass(ns: UInt64)
    case reopen

    var description: String {
        switch self {
        case .write(let offset, let count, _, let durability): return "write \(offset)+\(count) \(durability)"
        case .empty(let offset, let length, let how, let durability):
            return "\(how) \(offset)+\(length) \(durability)"
        case .flush: return "flush"
        case .createSnapshot(let name): return "snapshot \(name)"
        case .deleteSnapshot(let name): return "delete \(name)"
        case .revert(let name, let keep): return "revert to \(name)" + (keep.map { ", keep \($0)" } ?? "")
        case .rename(let name, let other): return "rename \(name) to \(other)"
        case .resize(let size): return "resize to \(size)"
        case .reserve(let offset, let length): return "reserve \(offset)+\(length)"
        case .look: return "look"
        case .pass(let ns): return "pass \(ns / 1_000_000) ms"
        case .reopen: return "reopen"
        }
    }
}

/// Which operations a workload is made of, in parts of a hundred; the rest are writes.
struct Mix: Sendable {
    var flush = 12
    var empty = 12
    var snapshots = 8
    var resize = 2
    var reopen = 3
    var pass = 4
    var look = 3
    var largeWrites = 25
    var durablePercent = 10
    /// Of the small writes, so many in a hundred are of one aligned block: batches of the same length, which is what
    /// lets a batch of an earlier life stand exactly behind one of a later life.
    var uniformPercent = 0

    static let everything = Mix()
    /// What the journal and the direct writes must get right.
    static let data = Mix(flush: 15, empty: 15, snapshots: 3, resize: 0, reopen: 1, pass: 3, look: 1, largeWrites: 40)
    /// What makes the ring of the smallest journal go round: large writes over blocks that are there already.
    static let ring = Mix(
        flush: 6, empty: 4, snapshots: 0, resize: 0, reopen: 0, pass: 2, look: 0, largeWrites: 90, durablePercent: 3)
    /// What a short life between two power cuts is made of.
    static let shortLife = Mix(
        flush: 10, empty: 10, snapshots: 8, resize: 0, reopen: 2, pass: 2, look: 0, largeWrites: 30, durablePercent: 5,
        uniformPercent: 80)
    /// What the chain must get right.
    static let chain = Mix(flush: 5, empty: 10, snapshots: 40, resize: 4, reopen: 4, pass: 2, look: 2, largeWrites: 30)
}

/// Makes operations from a seed, fitting what the volume holds at the time.
struct Workload: Sendable {
    var random: Generator
    let mix: Mix
    private var nextName = 0

    init(seed: UInt64, mix: Mix) {
        random = Generator(seed: seed)
        self.mix = mix
    }

    mutating func next(_ oracle: Oracle) -> Operation {
        var draw = random.below(100)
        func takes(_ percent: Int) -> Bool {
            draw -= percent
            return draw < 0
        }
        if takes(mix.flush) { return .flush }
        if takes(mix.empty) { return empty(oracle) }
        if takes(mix.snapshots) { return snapshot(oracle) }
        if takes(mix.resize) {
            // Between a quarter and twice of what it was at first is all that the check has to hold.
            return .resize((64 + random.below(UInt64(448))) * blockSize64)
        }
        if takes(mix.reopen) { return .reopen }
        if takes(mix.pass) { return .pass(ns: (1 + random.below(UInt64(60))) * 1_000_000_000) }
        if takes(mix.look) { return .look }
        return write(oracle)
    }

    private mutating func durability() -> Durability { random.chance(mix.durablePercent) ? .durable : .ordinary }

    private mutating func write(_ oracle: Oracle) -> Operation {
        let isLarge = random.chance(mix.largeWrites)
        if !isLarge && random.chance(mix.uniformPercent) {
            let offset = roundedDown(place(oracle.size - blockSize64), to: blockSize64)
            return .write(offset: offset, count: blockSize, fill: random.next(), durability())
        }
        var count: UInt64
        if isLarge {
            count = 65536 + random.below(UInt64(196_608))
        } else {
            count = random.chance(50) ? 1 + random.below(UInt64(8192)) : 4096 * (1 + random.below(UInt64(8)))
        }
        count = min(count, oracle.size)
        var offset = place(oracle.size - count)
        if random.chance(60) {
            offset = roundedDown(offset, to: blockSize64)
            if random.chance(70) { count = min(roundedUp(count, to: blockSize64), oracle.size - offset) }
        }
        return .write(offset: offset, count: Int(count), fill: random.next(), durability())
    }

    private mutating func empty(_ oracle: Oracle) -> Operation {
        let length = min(1 + random.below(UInt64(random.chance(50) ? 12_000 : 300_000)), oracle.size)
        var offset = place(oracle.size - length)
        if random.chance(50) { offset = roundedDown(offset, to: blockSize64) }
        return .empty(offset: offset, length: length, random.chance(50) ? .discard : .zero, durability())
    }

    /// Half of the places are in the same small part, so that operations meet.
    private mutating func place(_ limit: UInt64) -> UInt64 {
        random.below((random.chance(50) ? min(limit, 131_072) : limit) + 1)
    }

    private mutating func snapshot(_ oracle: Oracle) -> Operation {
        let names = oracle.snapshots.keys.sorted()
        let draw = random.below(100)
        if names.isEmpty || (draw < 45 && names.count < 6) {
            nextName += 1
            return .createSnapshot("s\(nextName)")
        }
        let name = names[random.below(names.count)]
        if draw < 80 { return .deleteSnapshot(name) }
        if draw < 95 {
            nextName += 1
            return .revert(to: name, keep: random.chance(50) ? "k\(nextName)" : nil)
        }
        nextName += 1
        return .rename(name, to: "r\(nextName)")
    }
}
