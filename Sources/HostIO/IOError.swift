internal import CLinux
internal import Glibc

/// A call to the host that failed: which, on what, and the errno.
public struct IOError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The C call or the double's name for it: `pwrite`, `fdatasync`, `openat`, …
    public var call: String
    /// The file's path as a person would look for it.
    public var path: String
    /// errno(3) of the call.
    public var code: Int32

    public init(call: String, path: String, code: Int32) {
        self.call = call
        self.path = path
        self.code = code
    }

    public var isNoSpace: Bool { code == ENOSPC || code == EDQUOT }
    public var isNotFound: Bool { code == ENOENT }
    public var isBusy: Bool { code == EAGAIN || code == EACCES && call == "fcntl" }
    public var exists: Bool { code == EEXIST }
    public var reason: String { errorText(code) }
    public var description: String { "\(path): \(call): \(reason)" }
}

/// strerror(3) of `code`.
public func errorText(_ code: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
        guard let base = buffer.baseAddress, cl_error_text(code, base, 256) == 0 else { return "errno \(code)" }
        return String(cString: base)
    }
}
