/// A call that changes something, or asks that it be durable.
public enum StepKind: String, Sendable, Hashable, CaseIterable {
    case write, punch, truncate, reserve, syncData, sync
    case create, createDirectory, remove, removeDirectory, rename, syncDirectory
}

/// One such call, before it takes effect.
public struct StepInfo: Sendable, Hashable, CustomStringConvertible {
    /// Counted from 1 over the whole host.
    public var number: Int
    public var kind: StepKind
    /// The file or directory; for a name, the name's path.
    public var path: String
    /// For `write`, `punch` and `reserve`; for `truncate` the new size.
    public var offset: UInt64
    public var count: UInt64

    public var description: String { "step \(number): \(kind.rawValue) \(path) \(offset)+\(count)" }
}

/// What becomes of a step.
public enum StepAction: Sendable, Hashable {
    case proceed
    /// It throws this errno and changes nothing. A sync that fails so loses what it was to make durable, as on
    /// Linux: memory shows it, the device does not have it, and the next sync succeeds.
    case fail(Int32)
    /// As `fail`, and so does every later step. ENOSPC instead fills the file system: only calls that need room fail.
    case failFromNowOn(Int32)
    /// Only for a write: that many bytes are written, then it throws this errno.
    case shortWrite(Int, Int32)
    /// The machine is off: this call and all later ones throw `SimulatedHost.machineOff` and change nothing.
    case powerLoss
    /// Only for a write: it is acknowledged, memory has it, and the device never gets it.
    case lostWrite
    /// Only for a write: it is acknowledged, memory has it, and the device gets it at this offset instead.
    case misdirectedWrite(UInt64)
}

/// Asked before each step, on the thread that makes it and with no lock held, so it may call the code under test and
/// so interleave two operations without a second thread.
public typealias StepHook = @Sendable (StepInfo) -> StepAction
