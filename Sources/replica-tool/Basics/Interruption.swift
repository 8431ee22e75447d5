import Glibc
import HostIO
import Primitives

/// SIGINT, SIGTERM and SIGUSR1 as one thread receives them (sigwait(3)); every other thread has them blocked.
///
/// Without a critical section an interrupt ends the process at once with 130. Inside one it is noted, so that the work
/// stops at its next safe place; a second one ends the process all the same.
final class Interruption: Sendable {
    static let shared = Interruption()

    private struct State {
        var depth = 0
        var isRequested = false
        var onStatus: (@Sendable () -> Void)?
        var onStop: (@Sendable (Int32) -> Void)?
        var isJSON = false
    }
    private let state = Guarded(State())

    /// Blocks the signals for this thread and all that it starts, and listens. SIGPIPE becomes EPIPE.
    func start(host: any Host) {
        signal(SIGPIPE, SIG_IGN)
        var set = Interruption.signals
        pthread_sigmask(SIG_BLOCK, &set, nil)
        _ = host.startThread(name: "signals") { [self] in listen() }
    }

    private static var signals: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGINT, SIGTERM, SIGUSR1] { sigaddset(&set, number) }
        return set
    }

    var isRequested: Bool { state.withLock { $0.isRequested } }
    func setJSON(_ isJSON: Bool) { state.withLock { $0.isJSON = isJSON } }
    /// What SIGUSR1 calls; nil: nothing.
    func onStatus(_ body: (@Sendable () -> Void)?) { state.withLock { $0.onStatus = body } }
    /// What SIGINT and SIGTERM call in a daemon, instead of all else.
    func onStop(_ body: @escaping @Sendable (Int32) -> Void) { state.withLock { $0.onStop = body } }

    /// Waits for an interrupt, at most so long.
    func wait(nanoseconds: UInt64) {
        _ = state.wait(forNs: nanoseconds) { $0.isRequested ? true : nil }
    }

    /// Work that must not be cut off; it asks `isRequested` and stops by itself.
    func critical<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        state.withLock { $0.depth += 1 }
        defer { state.withLock { $0.depth -= 1 } }
        return try body()
    }

    private func listen() {
        var set = Interruption.signals
        while true {
            var number: Int32 = 0
            guard sigwait(&set, &number) == 0 else { continue }
            if number == SIGUSR1 {
                state.withLock { $0.onStatus }?()
            } else {
                stop(number)
            }
        }
    }

    private func stop(_ number: Int32) {
        let (handler, endsNow, isJSON) = state.withLock { state in
            let endsNow = state.depth == 0 || state.isRequested
            state.isRequested = true
            return (state.onStop, endsNow, state.isJSON)
        }
        state.wakeAll()
        if let handler {
            handler(number)
        } else if endsNow {
            report(ToolError(.interrupted, "interrupted"), isJSON: isJSON)
            _exit(Exit.interrupted.rawValue)
        }
    }
}

/// An error as standard error shows it.
func report(_ error: ToolError, isJSON: Bool) {
    if isJSON {
        let line: JSON = [
            "message_type": "exit_error", "schema_version": schemaVersion,
            "code": .integer(Int64(error.exit.rawValue)), "message": .string(error.message),
        ]
        Output.error(line.description)
    } else {
        let oneLine = error.message.split(whereSeparator: \.isNewline).joined(separator: " ")
        Output.error("replica-tool: \(oneLine)")
    }
}
