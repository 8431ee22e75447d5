internal import CFuse3
internal import Glibc

/// What the callbacks need of the thread that they run on: where replies go, and memory for their data.
///
/// It belongs to the thread's stack and is found through a pthread key, because libfuse's callbacks carry nothing of
/// the thread that called `fuse_session_process_buf`.
struct ServingThread {
    /// The descriptor that the present request was read from: the kernel looks for it among that descriptor's alone.
    var replyDescriptor: Int32
    /// Page-aligned, `MessageBuffer.payloadLimit` bytes.
    let payload: UnsafeMutableRawBufferPointer
    /// Bits 32...63 of the features that the INIT request under way offers; nil when it is another request.
    var initFeatures: UInt32?

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        pthread_key_create(&key, nil)
        return key
    }()

    /// Runs `body` with `self` as the calling thread's.
    mutating func adopted<Result>(_ body: (UnsafeMutablePointer<ServingThread>) -> Result) -> Result {
        withUnsafeMutablePointer(to: &self) { pointer in
            pthread_setspecific(Self.key, pointer)
            defer { pthread_setspecific(Self.key, nil) }
            return body(pointer)
        }
    }

    /// The calling thread's, nil on a thread that serves no requests.
    @inline(__always)
    static var current: UnsafeMutablePointer<ServingThread>? {
        pthread_getspecific(key)?.assumingMemoryBound(to: ServingThread.self)
    }
}
