import Control
import HostIO
import Primitives
import Storage

/// How the tool ends. The numbers are a contract with scripts.
enum Exit: Int32, Sendable, CaseIterable {
    case done = 0
    case failed = 1
    case damage = 2
    case remarks = 3
    case notFound = 10
    case inUse = 11
    case notEnoughReplicas = 13
    case noSpace = 14
    case splitBrain = 15
    case unsupported = 63
    case usage = 64
    case interrupted = 130
}

/// Why a verb failed: one line for a person, and the exit code.
struct ToolError: Error, Sendable, Hashable {
    var exit: Exit
    var message: String

    init(_ exit: Exit, _ message: String) {
        self.exit = exit
        self.message = message
    }

    /// - Parameter what: what was being done: `cannot open vol`.
    init(_ error: StoreError, _ what: String) {
        self.init(exitCode(for: error), "\(what): \(error)\(advice(for: error))")
    }

    init(_ error: IOError, _ what: String) { self.init(.io(error), what) }

    init(_ failure: ControlFailure) { self.init(Exit(rawValue: failure.code) ?? .failed, failure.message) }

    var controlFailure: ControlFailure { ControlFailure(code: exit.rawValue, message: message) }
}

/// The one table from the store's errors to exit codes.
func exitCode(for error: StoreError) -> Exit {
    switch error {
    case .noSpace: .noSpace
    case .io(let cause): exitCode(for: cause)
    case .damagedBlocks, .damagedMetadata: .damage
    case .replicaFailed, .readOnly, .closed: .failed
    case .notFound: .notFound
    case .exists, .inUse, .refused: .inUse
    case .outOfRange, .invalid: .usage
    case .unsupportedFormat: .unsupported
    case .cancelled: .interrupted
    }
}

private func exitCode(for error: IOError) -> Exit {
    if error.isNoSpace { return .noSpace }
    if error.isNotFound { return .notFound }
    return error.isBusy ? .inUse : .failed
}

/// What to do next, where the error alone does not say it.
private func advice(for error: StoreError) -> String {
    switch error {
    case .noSpace: "; free space on that file system, then try again"
    case .io(let cause): advice(for: cause)
    case .damagedBlocks, .damagedMetadata: "; run 'replica-tool verify' to see all that is damaged"
    case .replicaFailed: "; the replica is kept as it is: export what can be read, then look at its disk"
    case .unsupportedFormat: "; use the version of replica-tool that wrote it"
    case .closed: "; mount it again"
    case .inUse(let what):
        what.contains("another process") ? "; wait until it ends ('fuser -v' on the replica's LOCK shows it)" : ""
    case .outOfRange, .readOnly, .notFound, .exists, .refused, .invalid, .cancelled: ""
    }
}

private func advice(for error: IOError) -> String {
    if error.isNoSpace { return "; free space on that file system, then try again" }
    if error.isNotFound { return "; check the path" }
    if error.isTooLarge {
        return "; that file system has a lower limit for a file: choose another, XFS for one, or a smaller size"
    }
    if error.isPermission { return "; run it as the owner of the volume" }
    return ""
}

/// Runs `body`, and says what was being done when it fails.
func during<Result>(_ what: @autoclosure () -> String, _ body: () throws(StoreError) -> Result) throws(ToolError)
    -> Result
{
    do {
        return try body()
    } catch {
        throw ToolError(error, what())
    }
}

func duringIO<Result>(_ what: @autoclosure () -> String, _ body: () throws(IOError) -> Result) throws(ToolError)
    -> Result
{
    do {
        return try body()
    } catch {
        throw ToolError(error, what())
    }
}
