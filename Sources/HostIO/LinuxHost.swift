internal import CLinux
internal import Glibc
internal import Primitives

/// The machine itself.
public final class LinuxHost: Host {
    public init() {}

    public func openDirectory(_ path: String) throws(IOError) -> any Directory {
        try LinuxDirectory(path: path)
    }

    public func createDirectory(_ path: String) throws(IOError) {
        if mkdir(path, 0o700) != 0 { throw IOError(call: "mkdir", path: path, code: errno) }
    }

    public func monotonicNs() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    public func wallClock() -> WallTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return WallTime(seconds: Int64(time.tv_sec), nanoseconds: Int32(time.tv_nsec))
    }

    public func random64() -> UInt64 {
        var value: UInt64 = 0
        let code = withUnsafeMutableBytes(of: &value) { cl_random($0.baseAddress, $0.count) }
        invariant(code == 0, "getrandom: \(errorText(-code))")
        return value
    }

    public func startThread(name: String, _ body: @escaping @Sendable () -> Void) -> Bool {
        HostIO.startThread(name: name, body)
        return true
    }
}

private final class ThreadBody {
    let name: String
    let body: @Sendable () -> Void
    init(name: String, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }
}

/// Starts a detached thread (pthread_create(3)); `name` is cut to 15 bytes.
nonisolated func startThread(name: String, _ body: @escaping @Sendable () -> Void) {
    let argument = Unmanaged.passRetained(ThreadBody(name: name, body: body)).toOpaque()
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    var thread = pthread_t()
    let code = pthread_create(
        &thread, &attributes,
        { argument in
            guard let argument else { return nil }
            let owner = Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue()
            _ = String(owner.name.prefix(15)).withCString { cl_name_thread($0) }
            owner.body()
            return nil
        }, argument)
    pthread_attr_destroy(&attributes)
    invariant(code == 0, "pthread_create: \(errorText(code))")
}
