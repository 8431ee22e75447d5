internal import Glibc

/// Why a mount, or an unmount, did not happen.
public enum MountFailure: Error, Sendable, Hashable, CustomStringConvertible {
    /// /dev/fuse cannot be opened: the kernel has no FUSE, or this container is not given it.
    case noFuseDevice(code: Int32)
    case mountPointMissing(path: String)
    case notADirectory(path: String)
    /// Files lie in the mount point, which the mount would hide.
    case notEmpty(path: String)
    /// A daemon died here and left its mount behind.
    case deadMount(path: String)
    /// Another file system is mounted there; or, for an unmount, files are open.
    case busy(path: String)
    case permissionDenied(path: String, code: Int32)
    case notMounted(path: String)
    /// libfuse or the kernel said no.
    case refused(path: String, reason: String)
    /// Another call failed.
    case system(call: String, path: String, code: Int32)

    public var description: String {
        switch self {
        case .noFuseDevice(let code):
            "/dev/fuse: \(text(code)); load the module `fuse`, or give the container the device"
        case .mountPointMissing(let path): "\(path): the mount point does not exist; create the directory first"
        case .notADirectory(let path): "\(path): the mount point is not a directory"
        case .notEmpty(let path):
            "\(path): the mount point holds files, which a mount would hide; use -o nonempty to mount there all the same"
        case .deadMount(let path): "\(path): the process that served the mount here has died; unmount it first"
        case .busy(let path): "\(path): in use"
        case .permissionDenied(let path, let code): "\(path): \(text(code))"
        case .notMounted(let path): "\(path): not mounted"
        case .refused(let path, let reason): "\(path): \(reason)"
        case .system(let call, let path, let code): "\(path): \(call): \(text(code))"
        }
    }
}

/// strerror_r(3).
private func text(_ code: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
        guard let base = buffer.baseAddress, strerror_r(code, base, buffer.count) == 0 else { return "error \(code)" }
        return String(cString: base)
    }
}
