internal import CFuse3
internal import Glibc
internal import Primitives
internal import Synchronization

/// A thread that reads requests from a descriptor of its own and serves them, one after another.
///
/// It ends when the file system is unmounted (the kernel answers ENODEV), or when it is told to leave: then after the
/// request that it is serving, if any.
final class Worker: @unchecked Sendable {
    enum Duty: Sendable {
        /// Serves every request.
        case everything
        /// Serves what cannot wait for the store, and puts the rest aside. For times when all others wait for it.
        case onlyState
    }

    private let session: Session
    private let descriptor: Int32
    private let ownsDescriptor: Bool
    private let duty: Duty
    private let backlog: Backlog
    private let exits: Guarded<Int>
    private let isLeaving = Atomic<Bool>(false)
    private let hasExited = Atomic<Bool>(false)
    /// Odd while a request is being served; rises by one at its start and its end.
    private let progress = Atomic<UInt64>(0)
    /// Written once, before anyone else has the worker.
    private var thread = pthread_t()

    /// Starts the thread.
    /// - Parameter exits: counts the threads that have ended.
    init(session: Session, duty: Duty, backlog: Backlog, exits: Guarded<Int>) {
        self.session = session
        self.duty = duty
        self.backlog = backlog
        self.exits = exits
        // A queue for each descriptor keeps the threads off each other's lock in the kernel. Where the kernel gives no
        // second descriptor, all share the first.
        let clone = duty == .everything ? rs_fuse_clone(session.descriptor) : -1
        ownsDescriptor = clone >= 0
        descriptor = clone >= 0 ? clone : session.descriptor
        thread = start(Unmanaged.passRetained(self))
    }

    /// Lets the thread end after the request it is serving. To be repeated until it has: a signal that arrives between
    /// the look at the flag and the read(2) is lost.
    func leave() {
        isLeaving.store(true, ordering: .sequentiallyConsistent)
        if !isFinished { pthread_kill(thread, rs_fuse_wake_signal()) }
    }

    var isFinished: Bool { hasExited.load(ordering: .sequentiallyConsistent) }
    var servingMark: UInt64 { progress.load(ordering: .relaxed) }

    /// Waits for the thread's end; once.
    func join() { pthread_join(thread, nil) }

    fileprivate func run() {
        rs_fuse_block_signals()
        let buffer = MessageBuffer()
        var state = ServingThread(replyDescriptor: descriptor, payload: buffer.payload, initFeatures: nil)
        state.adopted { serve(buffer.message, $0) }
        if ownsDescriptor { close(descriptor) }
        hasExited.store(true, ordering: .sequentiallyConsistent)
        exits.withLock { $0 += 1 }
        exits.wakeAll()
    }

    private func serve(_ message: UnsafeMutableRawBufferPointer, _ thread: UnsafeMutablePointer<ServingThread>) {
        while true {
            if duty == .everything || isLeaving.load(ordering: .relaxed) { serveBacklog(thread) }
            if isLeaving.load(ordering: .relaxed) { return }
            let count = read(descriptor, message.baseAddress, message.count)
            if count < 0 {
                // ENOENT: the request was taken back before it could be read.
                if errno == EINTR || errno == ENOENT || errno == EAGAIN { continue }
                // ENODEV: unmounted. No other error is known; none could be mended by reading on.
                return
            }
            if duty == .onlyState, RequestHead(UnsafeRawBufferPointer(message)).mayWaitForStore(message) {
                backlog.put(UnsafeRawBufferPointer(rebasing: message[..<count]), from: descriptor)
                continue
            }
            progress.add(1, ordering: .relaxed)
            Session.process(session.pointer, message, count)
            progress.add(1, ordering: .relaxed)
        }
    }

    private func serveBacklog(_ thread: UnsafeMutablePointer<ServingThread>) {
        while let item = backlog.take() {
            progress.add(1, ordering: .relaxed)
            thread.pointee.replyDescriptor = item.descriptor
            Session.process(session.pointer, item.message, item.message.count)
            thread.pointee.replyDescriptor = descriptor
            progress.add(1, ordering: .relaxed)
        }
    }
}

/// Formed outside of any actor: it runs on the new thread.
private func start(_ worker: Unmanaged<Worker>) -> pthread_t {
    var thread = pthread_t()
    let code = pthread_create(
        &thread, nil,
        { argument in
            if let argument { Unmanaged<Worker>.fromOpaque(argument).takeRetainedValue().run() }
            return nil
        }, worker.toOpaque())
    invariant(code == 0, "pthread_create: error \(code)")
    return thread
}
