internal import Primitives

/// Wakes the replica's two threads: one changes the structure (checkpoints, merges), one flushes.
final class Background: Sendable {
    private struct State {
        var isStopping = false
        var running = 0
        var wantsWork = false
        var wantsFlush = false
    }
    private let state = Guarded(State())
    private let threads = Guarded(false)

    /// Whether there are threads; without, work is done inside the calls that need it.
    var hasThreads: Bool { threads.withLock { $0 } }
    func setThreads() { threads.withLock { $0 = true } }
    func clearThreads() { threads.withLock { $0 = false } }

    func wake() {
        state.withLock { $0.wantsWork = true }
        state.wakeAll()
    }

    func wakeFlusher() {
        state.withLock { $0.wantsFlush = true }
        state.wakeAll()
    }

    func started() { state.withLock { $0.running += 1 } }
    func ended() {
        state.withLock { $0.running -= 1 }
        state.wakeAll()
    }

    /// Waits for `wake` or for a second; false when the thread is to end.
    func waitForWork() -> Bool {
        let goesOn = state.wait(forNs: tickNs) { state -> Bool? in
            if state.isStopping { return false }
            if !state.wantsWork { return nil }
            state.wantsWork = false
            return true
        }
        return goesOn ?? true
    }

    /// Waits for `wakeFlusher` or for a second; false when the thread is to end.
    func waitForFlush() -> Bool {
        let goesOn = state.wait(forNs: tickNs) { state -> Bool? in
            if state.isStopping { return false }
            if !state.wantsFlush { return nil }
            state.wantsFlush = false
            return true
        }
        return goesOn ?? true
    }

    /// Ends the threads and waits for them.
    func stop() {
        state.withLock { $0.isStopping = true }
        state.wakeAll()
        state.wait { $0.running == 0 ? () : nil }
    }
}

/// A second: how long an acknowledged write stays unflushed at most, and how often idle work is looked for.
private let tickNs: UInt64 = 1_000_000_000
