import CEndToEnd
import Foundation

/// A file as a user's program has it open: plain calls, their plain results. A failed call gives -errno.
/// Calls may come from several threads, as the kernel takes them; `lastError` belongs to the one that reads.
final class UserFile: @unchecked Sendable {
    let path: String
    let descriptor: Int32

    init(_ path: String, _ flags: Int32 = O_RDWR, direct: Bool = false) throws {
        self.path = path
        descriptor = open(path, flags | O_CLOEXEC | (direct ? ce_o_direct : 0), 0o600)
        if descriptor < 0 { throw HarnessError("\(path): open: \(String(cString: strerror(errno)))") }
    }

    deinit { close(descriptor) }

    var size: Int {
        var info = stat()
        return fstat(descriptor, &info) == 0 ? Int(info.st_size) : -Int(errno)
    }
    /// Bytes that st_blocks says are allocated.
    var allocated: Int {
        var info = stat()
        return fstat(descriptor, &info) == 0 ? Int(info.st_blocks) * 512 : -Int(errno)
    }

    /// Aligned memory, so that the same call serves O_DIRECT.
    private func aligned<Result>(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) -> Result) -> Result {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(count, 1), alignment: 4096)
        defer { buffer.deallocate() }
        return body(UnsafeMutableRawBufferPointer(rebasing: buffer[0..<count]))
    }

    /// pread(2) until `count` bytes or the end; nil after an error, which is left in `lastError`.
    func read(_ count: Int, at offset: Int) -> [UInt8]? {
        aligned(count) { buffer in
            var done = 0
            while done < count {
                let got = pread(descriptor, buffer.baseAddress! + done, count - done, off_t(offset + done))
                if got < 0 {
                    lastError = errno
                    return nil
                }
                if got == 0 { break }
                done += got
            }
            return Array(buffer[0..<done])
        }
    }

    private(set) var lastError: Int32 = 0

    /// pwrite(2), or pwritev2(2) with `flags`, once: bytes written, or -errno.
    func write(_ bytes: [UInt8], at offset: Int, flags: Int32 = 0) -> Int {
        aligned(bytes.count) { buffer in
            buffer.copyBytes(from: bytes)
            return ce_pwrite(descriptor, buffer.baseAddress, bytes.count, off_t(offset), flags)
        }
    }

    func fallocate(_ mode: Int32, _ offset: Int, _ count: Int) -> Int32 {
        ce_fallocate(descriptor, mode, off_t(offset), off_t(count))
    }
    func punch(_ offset: Int, _ count: Int) -> Int32 { fallocate(ce_punch_hole | ce_keep_size, offset, count) }
    func zeroRange(_ offset: Int, _ count: Int) -> Int32 { fallocate(ce_zero_range, offset, count) }
    func sync() -> Int32 { fsync(descriptor) == 0 ? 0 : -errno }
    func syncData() -> Int32 { fdatasync(descriptor) == 0 ? 0 : -errno }
    func truncate(_ size: Int) -> Int32 { ftruncate(descriptor, off_t(size)) == 0 ? 0 : -errno }

    /// The runs of data by SEEK_DATA and SEEK_HOLE.
    func dataRuns() throws -> [Range<Int>] {
        var runs: [Range<Int>] = []
        var place = 0
        while place < size {
            let start = Int(ce_seek(descriptor, off_t(place), 0))
            if start == -Int(ENXIO) { break }
            let end = Int(ce_seek(descriptor, off_t(start), 1))
            guard start >= place, end > start else {
                throw HarnessError("\(path): SEEK_DATA \(place): \(start), SEEK_HOLE: \(end)")
            }
            runs.append(start..<end)
            place = end
        }
        return runs
    }

    /// Writes through a shared mapping (mmap(2), msync(2)): 0 or -errno.
    func writeMapped(_ bytes: [UInt8], at offset: Int) -> Int32 {
        let page = offset & ~4095
        let length = offset + bytes.count - page
        guard let base = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, off_t(page)),
            base != MAP_FAILED
        else { return -errno }
        defer { munmap(base, length) }
        UnsafeMutableRawBufferPointer(start: base + (offset - page), count: bytes.count).copyBytes(from: bytes)
        return msync(base, length, MS_SYNC) == 0 ? 0 : -errno
    }

    /// Reads through a shared mapping.
    func readMapped(_ count: Int, at offset: Int) -> [UInt8]? {
        let page = offset & ~4095
        let length = offset + count - page
        guard let base = mmap(nil, length, PROT_READ, MAP_SHARED, descriptor, off_t(page)), base != MAP_FAILED else {
            return nil
        }
        defer { munmap(base, length) }
        return Array(UnsafeRawBufferPointer(start: base + (offset - page), count: count))
    }
}

/// Changes one bit of a file: what a rotten disk does.
func flipBit(_ path: String, at offset: Int, bit: Int = 0) throws {
    let file = try UserFile(path)
    guard var byte = file.read(1, at: offset), byte.count == 1 else {
        throw HarnessError("\(path): no byte at \(offset)")
    }
    byte[0] ^= 1 << UInt8(bit & 7)
    guard file.write(byte, at: offset) == 1 else { throw HarnessError("\(path): the flip was not written") }
    _ = file.sync()
}
