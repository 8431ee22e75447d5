public import HostIO
internal import Primitives

/// A machine in memory: one file system, a clock that counts calls, and seeded random numbers.
///
/// Every byte written is visible to readers at once and durable only after a sync; `crash` makes the machine that a
/// power cut would leave. A hook sees each step before it happens and can let it fail. The same seed and the same
/// calls give the same run. Calls may come from any thread, but only a single thread makes a run repeatable, so
/// `startThread` says no unless the options ask for threads.
public final class SimulatedHost: Host {
    /// What the simulated machine is like.
    public struct Options: Sendable {
        public var seed: UInt64 = 1
        /// Bytes of the file system; nil: more than anyone needs.
        public var capacity: UInt64?
        /// How far the clock goes on with each look at it.
        public var tickNs: UInt64 = 1000
        /// What an uncached read's offset, length and memory must be a multiple of.
        public var directAlignment = 512
        /// The chance in a hundred that a sector whose sync failed is on the device all the same.
        public var failedSyncKeepsPercent = 50
        /// Starts real threads when asked to. What they do then is not repeatable.
        public var hasThreads = false
        public init(seed: UInt64 = 1, capacity: UInt64? = nil) {
            self.seed = seed
            self.capacity = capacity
        }
    }

    /// The errno of every call to a machine that is off: EHOSTDOWN, which no file system answers.
    public static let machineOff: Int32 = 112

    /// A part of a file whose reads fail.
    struct BadRange: Sendable {
        var path: String
        var offset: UInt64
        var count: UInt64
        var code: Int32
        var onlyUncached: Bool
    }

    struct Machine: Sendable {
        var disk = Disk()
        var generator: Generator
        var options: Options
        var nowNs: UInt64 = 1_000_000_000
        var steps = 0
        var reads = 0
        var isOff = false
        var stickyCode: Int32?
        var badRanges: [BadRange] = []
        /// Files by number: how many handles are open, and which of them holds the lock.
        var openHandles: [Int: Int] = [:]
        var locks: [Int: Int] = [:]
        var nextHandle = 0
        var hook: StepHook?
    }

    let machine: Guarded<Machine>

    public convenience init(seed: UInt64 = 1, capacity: UInt64? = nil) {
        self.init(Options(seed: seed, capacity: capacity))
    }

    public convenience init(_ options: Options) {
        var disk = Disk()
        if let capacity = options.capacity { disk.capacityPages = Int(capacity / pageSize64) }
        self.init(Machine(disk: disk, generator: Generator(seed: options.seed), options: options))
    }

    init(_ machine: Machine) { self.machine = Guarded(machine) }

    // Host

    public func openDirectory(_ path: String) throws(IOError) -> any Directory {
        let number = try machine.withLock { (machine) throws(IOError) in
            if machine.isOff { throw IOError(call: "open", path: path, code: Self.machineOff) }
            return try machine.disk.directory(path)
        }
        return SimulatedDirectory(path: path, number: number, host: self)
    }

    public func createDirectory(_ path: String) throws(IOError) {
        if case .fail(let code) = take(.createDirectory, path) {
            throw IOError(call: "mkdir", path: path, code: code)
        }
        try machine.withLock { (machine) throws(IOError) in
            let (parent, name) = try machine.disk.parent(path)
            if machine.disk.directories[parent].current[name] != nil {
                throw IOError(call: "mkdir", path: path, code: errnoExists)
            }
            _ = machine.disk.createDirectory(name, in: parent)
        }
    }

    public func monotonicNs() -> UInt64 {
        machine.withLock { machine in
            machine.nowNs += machine.options.tickNs
            return machine.nowNs
        }
    }

    public func wallClock() -> WallTime {
        let now = monotonicNs()
        // 2026-01-01 00:00 UTC and as long as the machine runs.
        return WallTime(
            seconds: 1_767_225_600 + Int64(now / 1_000_000_000), nanoseconds: Int32(now % 1_000_000_000))
    }

    public func random64() -> UInt64 { machine.withLock { $0.generator.next() } }

    public func startThread(name: String, _ body: @escaping @Sendable () -> Void) -> Bool {
        machine.withLock { $0.options.hasThreads } && LinuxHost().startThread(name: name, body)
    }

    // Control

    /// Lets time pass.
    public func advance(ns: UInt64) { machine.withLock { $0.nowNs += ns } }

    /// Steps taken so far.
    public var steps: Int { machine.withLock { $0.steps } }

    /// Reads of files so far.
    public var reads: Int { machine.withLock { $0.reads } }

    /// Whether the power is gone.
    public var isOff: Bool { machine.withLock { $0.isOff } }

    /// Sets what is asked before each step; nil for nothing. Copies and survivors of this host start without.
    public func onStep(_ hook: StepHook?) { machine.withLock { $0.hook = hook } }

    /// Ends a `failFromNowOn` of an errno other than ENOSPC; for that, see `consume`.
    public func recover() { machine.withLock { $0.stickyCode = nil } }

    /// Another user of the same file system now holds `bytes` of it in all.
    public func consume(bytes: UInt64) { machine.withLock { $0.disk.consumedPages = Int(bytes / pageSize64) } }

    /// Another user of the same file system takes all but `bytes` of what is free now.
    public func leaveFree(bytes: UInt64) {
        machine.withLock { machine in
            machine.disk.consumedPages += machine.disk.freePages - Int(bytes / pageSize64)
        }
    }

    // Steps

    /// Counts a step and asks the hook. What is left for the caller is `fail` for every kind of failure, the three
    /// special writes, and `proceed`.
    func take(_ kind: StepKind, _ path: String, offset: UInt64 = 0, count: UInt64 = 0) -> StepAction {
        let (hook, number, code): (StepHook?, Int, Int32?) = machine.withLock { machine in
            if machine.isOff { return (nil, 0, Self.machineOff) }
            machine.steps += 1
            return (machine.hook, machine.steps, machine.stickyCode)
        }
        if let code { return .fail(code) }
        let info = StepInfo(number: number, kind: kind, path: path, offset: offset, count: count)
        let action = hook?(info) ?? .proceed
        return machine.withLock { machine in
            if machine.isOff { return .fail(Self.machineOff) }
            switch action {
            case .powerLoss:
                machine.isOff = true
                return .fail(Self.machineOff)
            case .failFromNowOn(errnoNoSpace):
                machine.disk.consumedPages += machine.disk.freePages
                return .proceed
            case .failFromNowOn(let code):
                machine.stickyCode = code
                return .fail(code)
            case .shortWrite(_, let code) where kind != .write:
                return .fail(code)
            case .lostWrite where kind != .write: return .proceed
            case .misdirectedWrite where kind != .write: return .proceed
            default: return action
            }
        }
    }
}
