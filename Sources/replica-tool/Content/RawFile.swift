import Glibc
import HostIO
import Primitives

/// A file of the user's that content comes from, goes to, or is measured on: opened as the user named it, links and all.
/// The store's own files are opened through `Host` alone.
final class RawFile: Sendable {
    let path: String
    let descriptor: Int32
    let size: UInt64

    init(path: String, descriptor: Int32, size: UInt64) {
        self.path = path
        self.descriptor = descriptor
        self.size = size
    }

    deinit { close(descriptor) }

    /// Opens a regular file or a block device.
    static func open(_ path: String, writable: Bool) throws(ToolError) -> RawFile {
        let descriptor = Glibc.open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
        guard descriptor >= 0 else {
            let code = errno
            throw ToolError(
                code == ENOENT ? .notFound : .failed,
                "cannot open \(printable(path)): \(errorText(code)); check the path")
        }
        var info = stat()
        guard fstat(descriptor, &info) == 0, [S_IFREG, S_IFBLK].contains(info.st_mode & S_IFMT) else {
            close(descriptor)
            throw ToolError(.usage, "\(printable(path)) is neither a file nor a block device")
        }
        let end = lseek(descriptor, 0, SEEK_END)
        guard end >= 0 else {
            let code = errno
            close(descriptor)
            throw ToolError(.failed, "cannot measure \(printable(path)): \(errorText(code))")
        }
        return RawFile(path: path, descriptor: descriptor, size: UInt64(end))
    }

    /// Fills the buffer (pread(2)); bytes behind the end are zeros.
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(ToolError) {
        var done = 0
        while done < buffer.count {
            let got = pread(
                descriptor, buffer.baseAddress.map { $0 + done }, buffer.count - done, off_t(offset) + off_t(done))
            if got < 0 {
                if errno == EINTR { continue }
                throw failed("read")
            }
            if got == 0 { break }
            done += got
        }
        UnsafeMutableRawBufferPointer(rebasing: buffer[done...]).initializeMemory(as: UInt8.self, repeating: 0)
    }

    /// Writes all bytes (pwrite(2)).
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(ToolError) {
        var done = 0
        while done < bytes.count {
            let wrote = pwrite(
                descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset) + off_t(done))
            if wrote < 0 {
                if errno == EINTR { continue }
                throw failed("write")
            }
            done += wrote
        }
    }

    func sync() throws(ToolError) {
        guard fsync(descriptor) == 0 else { throw failed("fsync") }
    }

    func truncate(to size: UInt64) throws(ToolError) {
        guard ftruncate(descriptor, off_t(size)) == 0 else { throw failed("ftruncate") }
    }

    /// The run at `offset`: data, or a hole (SEEK_DATA, SEEK_HOLE). A file system without them has data everywhere.
    func run(at offset: UInt64) -> (length: UInt64, isData: Bool) {
        // Glibc shows neither constant to Swift; Linux numbers them 3 and 4.
        let data = lseek(descriptor, off_t(offset), 3)
        if data < 0 { return (size - offset, errno != ENXIO) }
        if UInt64(data) > offset { return (min(size, UInt64(data)) - offset, false) }
        let hole = lseek(descriptor, off_t(offset), 4)
        return (hole > off_t(offset) ? min(size, UInt64(hole)) - offset : size - offset, true)
    }

    func failed(_ call: String) -> ToolError {
        let code = errno
        let error = IOError(call: call, path: path, code: code)
        return ToolError(error, "cannot go on")
    }
}
