/// What a power cut leaves of the changes that no sync had made durable.
///
/// A unit is the smallest thing that survives or not: one 512-byte sector of a write, one page of a punch, one change
/// of a size, one name of a directory. Where a policy picks one of many, it is by the seed modulo their number, so
/// that counting seeds up visits all of them.
public enum CrashPolicy: Sendable, Hashable {
    /// Only what was synced.
    case nothing
    /// All of it, as when only the process had been killed.
    case everything
    /// Each unit by itself, kept with this chance in a hundred.
    case units(percent: Int)
    /// Each operation by itself, whole or not at all.
    case operations(percent: Int)
    /// Each file by itself, all of its changes or none.
    case files
    /// One unit and nothing else.
    case oneUnit
    /// Everything but one unit.
    case allButOneUnit
    /// The first operations, in the order in which they were made.
    case prefix
    /// The operations before one write, and the first sectors of that write.
    case torn
}

/// One decision of a power cut after the other, in the fixed order in which a disk's changes are walked.
struct Survival {
    enum Rule {
        case all
        case none
        case units(percent: Int)
        case operations(percent: Int)
        case files
        case one(Int)
        case allButOne(Int)
        /// Sequences below `end`; of `end` itself the first `units`.
        case before(UInt64, units: Int)
    }

    private let rule: Rule
    private var generator: Generator
    private let seed: UInt64
    private var unit = 0
    private var sequence: UInt64 = 0
    private var unitOfOperation = 0
    private var isKept = false

    init(_ rule: Rule, seed: UInt64) {
        self.rule = rule
        self.seed = seed
        generator = Generator(seed: seed)
    }

    /// How many units were asked about.
    var units: Int { unit }

    mutating func begin(_ sequence: UInt64, file: Int) {
        self.sequence = sequence
        unitOfOperation = 0
        switch rule {
        case .operations(let percent): isKept = generator.chance(percent)
        case .files:
            var own = Generator(seed: seed &+ UInt64(bitPattern: Int64(file)) &* 0x9E37_79B9)
            isKept = own.chance(50)
        default: break
        }
    }

    mutating func keepsUnit() -> Bool {
        defer {
            unit += 1
            unitOfOperation += 1
        }
        switch rule {
        case .all: return true
        case .none: return false
        case .units(let percent): return generator.chance(percent)
        case .operations, .files: return isKept
        case .one(let chosen): return unit == chosen
        case .allButOne(let chosen): return unit != chosen
        case .before(let end, let units): return sequence < end || (sequence == end && unitOfOperation < units)
        }
    }
}
