internal import Glibc
internal import Primitives
internal import Synchronization

/// The threads of one mount, and the watch over them.
///
/// When each of them has been busy with the same request for a while, a disk or a peer hangs. Then one more thread
/// answers what needs no store (`.replica/status` above all) and puts the rest aside, until the others move again.
final class WorkerPool: Sendable {
    /// How often the watch looks. A hang is noticed after one to two of these.
    private static let watchNs: UInt64 = 250_000_000
    /// How often threads that are to leave are woken again.
    private static let wakeNs: UInt64 = 5_000_000

    private let session: Session
    private let backlog = Backlog()
    private let exits = Guarded(0)
    private let isStopping = Atomic<Bool>(false)

    init(session: Session) { self.session = session }

    /// Lets `run` end: no further request is taken, those being served end.
    func stop() {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        exits.wakeAll()
    }

    /// Serves until the file system is unmounted or `stop` is called.
    func run(threadCount: Int, onReady: () -> Void) {
        let workers = (0..<threadCount).map { _ in
            Worker(session: session, duty: .everything, backlog: backlog, exits: exits)
        }
        onReady()
        watch(workers)
        while !workers.allSatisfy(\.isFinished) {
            for worker in workers where !worker.isFinished { worker.leave() }
            awaitExit(forNs: Self.wakeNs)
        }
        for worker in workers { worker.join() }
    }

    /// Returns when a thread has ended by itself, which means that the file system is unmounted, or at `stop`.
    private func watch(_ workers: [Worker]) {
        var marks = workers.map(\.servingMark)
        var helper: Worker?
        while !isStopping.load(ordering: .sequentiallyConsistent), !workers.contains(where: \.isFinished) {
            awaitExit(forNs: Self.watchNs)
            let now = workers.map(\.servingMark)
            let isStalled = zip(marks, now).allSatisfy { $0 == $1 && $1 % 2 == 1 }
            marks = now
            if isStalled, helper == nil {
                helper = Worker(session: session, duty: .onlyState, backlog: backlog, exits: exits)
            } else if !isStalled, let present = helper {
                dismiss(present)
                helper = nil
            }
        }
        if let helper { dismiss(helper) }
    }

    /// The helper serves what is left aside before it goes.
    private func dismiss(_ helper: Worker) {
        while !helper.isFinished {
            helper.leave()
            awaitExit(forNs: Self.wakeNs)
        }
        helper.join()
    }

    private func awaitExit(forNs nanoseconds: UInt64) {
        let before = exits.withLock { $0 }
        let stopped = isStopping.load(ordering: .sequentiallyConsistent)
        _ = exits.wait(forNs: nanoseconds) { count in
            count != before || isStopping.load(ordering: .sequentiallyConsistent) != stopped ? true : nil
        }
    }
}
