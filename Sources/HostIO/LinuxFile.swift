internal import CLinux
internal import Glibc
internal import Primitives

/// A descriptor of a regular file.
final class LinuxFile: File {
    let path: String
    private let descriptor: Int32
    private let access: FileAccess

    init(path: String, descriptor: Int32, access: FileAccess) {
        self.path = path
        self.descriptor = descriptor
        self.access = access
    }

    deinit { close(descriptor) }

    private func check(_ result: Int, _ call: String) throws(IOError) {
        if result < 0 { throw IOError(call: call, path: path, code: Int32(-result)) }
    }

    /// Refuses what is not a regular file with one name: a hard link would be a way out of the directory.
    func checkRegular() throws(IOError) {
        var info = stat()
        if fstat(descriptor, &info) != 0 { throw IOError(call: "fstat", path: path, code: errno) }
        if info.st_mode & S_IFMT != S_IFREG { throw IOError(call: "openat", path: path, code: EINVAL) }
        if info.st_nlink > 1 { throw IOError(call: "openat", path: path, code: EMLINK) }
    }

    private func status() throws(IOError) -> stat {
        var info = stat()
        if fstat(descriptor, &info) != 0 { throw IOError(call: "fstat", path: path, code: errno) }
        return info
    }

    func size() throws(IOError) -> UInt64 { UInt64(try status().st_size) }
    func allocated() throws(IOError) -> UInt64 { UInt64(try status().st_blocks) * 512 }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(IOError) -> Int {
        let got = cl_pread(descriptor, buffer.baseAddress, buffer.count, off_t(offset))
        try check(got, "pread")
        return got
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(IOError) {
        var done = 0
        while done < bytes.count {
            let wrote = cl_pwrite(
                descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset) + off_t(done))
            try check(wrote, "pwrite")
            if wrote == 0 { throw IOError(call: "pwrite", path: path, code: EIO) }
            done += wrote
        }
    }

    func write(parts: UnsafeBufferPointer<UnsafeRawBufferPointer>, at offset: UInt64) throws(IOError) {
        var position = offset
        var next = 0
        while next < parts.count {
            let count = min(parts.count - next, ioVectorLimit)
            let wrote = withUnsafeTemporaryAllocation(of: iovec.self, capacity: count) { vectors -> Int in
                for index in 0..<count {
                    let part = parts[next + index]
                    vectors.initializeElement(
                        at: index,
                        to: iovec(iov_base: UnsafeMutableRawPointer(mutating: part.baseAddress), iov_len: part.count))
                }
                return cl_pwritev(descriptor, vectors.baseAddress, Int32(count), off_t(position))
            }
            try check(wrote, "pwritev")
            if wrote == 0 { throw IOError(call: "pwritev", path: path, code: EIO) }
            // What is written whole is passed over; a part cut in two is finished by plain writes.
            var left = wrote
            for _ in 0..<count {
                let part = parts[next]
                if left >= part.count {
                    left -= part.count
                    position += UInt64(part.count)
                    next += 1
                } else {
                    break
                }
            }
            if left > 0 {
                let part = parts[next]
                try write(UnsafeRawBufferPointer(rebasing: part[left...]), at: position + UInt64(left))
                position += UInt64(part.count)
                next += 1
            }
        }
    }

    func syncData() throws(IOError) { try check(Int(cl_fdatasync(descriptor)), "fdatasync") }
    func sync() throws(IOError) { try check(Int(cl_fsync(descriptor)), "fsync") }

    func punch(offset: UInt64, count: UInt64) throws(IOError) {
        if count == 0 { return }
        try check(Int(cl_punch(descriptor, off_t(offset), off_t(count))), "fallocate")
    }

    func reserve(offset: UInt64, count: UInt64) throws(IOError) {
        if count == 0 { return }
        try check(Int(cl_allocate(descriptor, off_t(offset), off_t(count), 1)), "fallocate")
    }

    func truncate(to size: UInt64) throws(IOError) {
        if ftruncate(descriptor, off_t(size)) != 0 { throw IOError(call: "ftruncate", path: path, code: errno) }
    }

    func nextData(from offset: UInt64) throws(IOError) -> UInt64? {
        let found = cl_seek_data(descriptor, off_t(offset))
        if found == -off_t(ENXIO) { return nil }
        try check(Int(found), "lseek")
        return UInt64(found)
    }

    func nextHole(from offset: UInt64) throws(IOError) -> UInt64? {
        let found = cl_seek_hole(descriptor, off_t(offset))
        if found == -off_t(ENXIO) { return nil }
        try check(Int(found), "lseek")
        return UInt64(found)
    }

    func lock() throws(IOError) { try check(Int(cl_lock_exclusive(descriptor)), "fcntl") }

    func uncached() throws(IOError) -> any File {
        // The descriptor's own entry is opened again, so a name that changed meanwhile does not matter.
        let opened = cl_openat(AT_FDCWD, "/proc/self/fd/\(descriptor)", O_RDONLY | O_CLOEXEC | cl_o_direct, 0)
        // EINVAL: a file system without O_DIRECT (tmpfs before Linux 6.5). Its page cache is all there is.
        if opened == -EINVAL || opened == -ENOENT { return self }
        try check(Int(opened), "open")
        return LinuxFile(path: path, descriptor: opened, access: .readOnly)
    }
}

/// IOV_MAX of Linux: the most parts that one pwritev(2) takes.
private let ioVectorLimit = 1024
