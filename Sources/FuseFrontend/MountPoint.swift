internal import CFuse3
internal import Glibc

/// Where a file system is mounted: looked at before the mount, so that each obstacle gets its own message.
enum MountPoint {
    /// - Returns: the path without symbolic links.
    static func check(_ path: String, allowsFilesBelow: Bool) throws(MountFailure) -> String {
        try checkDevice()
        guard let resolved = realpath(path, nil) else {
            switch errno {
            case ENOENT, ENOTDIR: throw .mountPointMissing(path: path)
            case ENOTCONN: throw .deadMount(path: path)
            case EACCES: throw .permissionDenied(path: path, code: EACCES)
            default: throw .system(call: "realpath", path: path, code: errno)
            }
        }
        defer { free(resolved) }
        let mountPoint = String(cString: resolved)
        var info = stat()
        if stat(mountPoint, &info) != 0 {
            if errno == ENOTCONN { throw .deadMount(path: mountPoint) }
            if errno == EACCES { throw .permissionDenied(path: mountPoint, code: errno) }
            throw .system(call: "stat", path: mountPoint, code: errno)
        }
        if info.st_mode & S_IFMT != S_IFDIR { throw .notADirectory(path: mountPoint) }
        if MountTableEntry.top(at: mountPoint) != nil && !allowsFilesBelow { throw .busy(path: mountPoint) }
        if !allowsFilesBelow { try checkEmpty(mountPoint) }
        return mountPoint
    }

    private static func checkDevice() throws(MountFailure) {
        let device = open("/dev/fuse", O_RDWR | O_CLOEXEC)
        if device < 0 { throw .noFuseDevice(code: errno) }
        close(device)
    }

    private static func checkEmpty(_ path: String) throws(MountFailure) {
        guard let directory = opendir(path) else {
            if errno == EACCES { throw .permissionDenied(path: path, code: errno) }
            throw .system(call: "opendir", path: path, code: errno)
        }
        defer { closedir(directory) }
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." { throw .notEmpty(path: path) }
        }
    }
}
