internal import CMountTest
internal import FuseFrontend
internal import FuseTestSupport
internal import Glibc
internal import Testing

/// Every way to open the volume.
struct Access: Sendable, CustomStringConvertible {
    var cache: CacheMode
    var isDirect: Bool
    var flags: Int32 { isDirect ? ct_direct : 0 }
    var description: String { "\(cache.rawValue)\(isDirect ? ", O_DIRECT" : "")" }
    static let all = CacheMode.allCases.flatMap {
        [Access(cache: $0, isDirect: false), Access(cache: $0, isDirect: true)]
    }
    /// The kernel takes writes in before we see them, so an error shows up only at the next fsync.
    var gathersWrites: Bool { cache == .writeback && !isDirect }
}

@Suite("The volume as a file", .serialized, needsFuse)
struct VolumeTests {
    @Test(arguments: Access.all)
    func `what is written is read back, here and in the store`(access: Access) throws {
        try withMount(cache: access.cache) { (fixture) throws in
            let file = try fixture.open(O_RDWR | access.flags)
            try file.write(pattern(12288, 1), at: 8192)
            #expect(
                try file.read(20480, at: 4096) == [UInt8](repeating: 0, count: 4096) + pattern(12288, 1)
                    + [UInt8](repeating: 0, count: 4096))
            try file.sync()
            #expect(Array(fixture.image.bytes[8192..<20480]) == pattern(12288, 1))
        }
    }

    @Test(arguments: Access.all.filter { !$0.gathersWrites })
    func `a write at the end or behind it says ENOSPC, one across it writes what fits`(access: Access) throws {
        try withMount(cache: access.cache) { (fixture) throws in
            let size = 1 << 20
            let file = try fixture.open(O_RDWR | access.flags)
            #expect(failure { try file.write(pattern(4096, 1), at: size) } == ENOSPC)
            #expect(failure { try file.write(pattern(4096, 1), at: size + (1 << 30)) } == ENOSPC)
            #expect(try file.write(pattern(8192, 2), at: size - 4096) == 4096)
            #expect(try file.status().st_size == size)
            #expect(try file.read(8192, at: size - 4096) == Array(pattern(8192, 2)[..<4096]))
            #expect(try file.read(4096, at: size) == [])
            let appending = try fixture.open(O_WRONLY | O_APPEND | access.flags)
            #expect(failure { try appending.write(pattern(4096, 1), at: 0) } == ENOSPC)
        }
    }

    @Test func `with gathered writes, a write behind the end is told by fsync and changes nothing`() throws {
        try withMount(cache: .writeback) { (fixture) throws in
            let file = try fixture.open()
            try file.write(pattern(4096, 1), at: 1 << 20)
            #expect(failure { try file.sync() } != nil)
            #expect(fixture.image.bytes.allSatisfy { $0 == 0 })
        }
    }

    @Test(arguments: CacheMode.allCases)
    func `truncate to another size is refused, to the same size it is granted`(cache: CacheMode) throws {
        try withMount(cache: cache) { (fixture) throws in
            let file = try fixture.open()
            try file.write(pattern(4096, 1), at: 0)
            for size in [0, 4096, (1 << 20) - 1, (1 << 20) + 1, 1 << 40] {
                #expect(failure { try file.truncate(to: size) } == EPERM)
                #expect(failure { try check(truncate(fixture.path, size)) } == EPERM, "by path, \(size)")
            }
            #expect(failure { try file.truncate(to: 1 << 20) } == nil)
            #expect(failure { try check(truncate(fixture.path, 1 << 20)) } == nil)
            #expect(try file.status().st_size == 1 << 20)
            #expect(try file.read(4096, at: 0) == pattern(4096, 1))
        }
    }

    @Test(arguments: CacheMode.allCases)
    func `an open with O_TRUNC keeps all data, also pages that were not sent yet`(cache: CacheMode) throws {
        try withMount(cache: cache) { (fixture) throws in
            let file = try fixture.open()
            try file.write(pattern(1 << 20, 1), at: 0)
            let mapping = try file.map(1 << 20)
            mapping[12345] = 200
            let again = try fixture.open(O_RDWR | O_TRUNC)
            #expect(try again.status().st_size == 1 << 20)
            var expected = pattern(1 << 20, 1)
            expected[12345] = 200
            #expect(try again.read(1 << 20, at: 0) == expected)
            try again.write([5], at: 4096)
            expected[4096] = 5
            unmap(mapping)
            try again.sync()
            #expect(fixture.image.bytes == expected)
            // The open is over: a truncation that follows it is one of its own.
            #expect(failure { try check(truncate(fixture.path, 0)) } == EPERM)
        }
    }

    @Test(arguments: Access.all)
    func `punched and zeroed ranges read as zeros at any alignment`(access: Access) throws {
        try withMount(cache: access.cache) { (fixture) throws in
            let file = try fixture.open(O_RDWR | access.flags)
            let cached = try fixture.open(O_RDONLY)
            var expected = pattern(1 << 20, 1)
            try file.write(expected, at: 0)
            var generator = Generator(seed: 11)
            let modes = [ct_punch | ct_keep_size, ct_zero_range, ct_zero_range | ct_keep_size]
            for round in 0..<60 {
                let offset = generator.below(1 << 20)
                let length = 1 + generator.below(min(1 << 16, (1 << 20) - offset))
                try file.allocate(modes[round % 3], offset, length)
                for index in offset..<offset + length { expected[index] = 0 }
                // One byte beside the range is written anew, so that not all becomes zero.
                let block = generator.below(256) * 4096
                try file.write(pattern(4096, UInt8(round)), at: block)
                expected.replaceSubrange(block..<block + 4096, with: pattern(4096, UInt8(round)))
            }
            #expect(try cached.read(1 << 20, at: 0) == expected)
            #expect(try file.read(1 << 20, at: 0) == expected)
            try file.sync()
            #expect(fixture.image.bytes == expected)
        }
    }

    @Test func `fallocate reserves inside the file, refuses to grow it, and knows no other mode`() throws {
        try withMount { (fixture) throws in
            let size = 1 << 20
            let file = try fixture.open()
            try file.write(pattern(4096, 1), at: 0)
            try file.allocate(0, 0, size)
            #expect(fixture.image.counters.reservations == 1)
            #expect(failure { try file.allocate(0, 0, size + 1) } == EFBIG)
            #expect(failure { try file.allocate(0, size, 1) } == EFBIG)
            #expect(failure { try file.allocate(ct_zero_range, size - 1, 2) } == EFBIG)
            // What keeps the size may reach behind the end, as in any file; the part inside is done.
            #expect(failure { try file.allocate(ct_zero_range | ct_keep_size, 100, 2 * size) } == nil)
            #expect(failure { try file.allocate(ct_punch | ct_keep_size, size, size) } == nil)
            #expect(try file.read(4096, at: 0) == Array(pattern(4096, 1)[..<100]) + [UInt8](repeating: 0, count: 3996))
            for mode in [ct_keep_size, ct_collapse, ct_insert, ct_unshare, ct_unshare | ct_keep_size] {
                #expect(failure { try file.allocate(mode, 4096, 4096) } == EOPNOTSUPP, "mode \(mode)")
            }
            #expect(failure { try fixture.open(O_RDONLY).allocate(0, 0, 1) } == EBADF)
            #expect(try file.status().st_size == size)
            fixture.image.fail(with: MountError(errno: ENOSPC))
            #expect(failure { try file.allocate(0, 0, 4096) } == ENOSPC)
        }
    }

    @Test(arguments: Access.all.filter { $0.cache != .writeback })
    func `SEEK_DATA and SEEK_HOLE follow the map exactly`(access: Access) throws {
        try withMount(cache: access.cache) { (fixture) throws in
            let size = 1 << 20
            let file = try fixture.open(O_RDWR | access.flags)
            #expect(failure { _ = try file.seek(ct_seek_data, 0) } == ENXIO)
            #expect(try file.seek(ct_seek_hole, 5) == 5)
            try file.write(pattern(8192, 1), at: 16384)
            try file.write(pattern(4096, 1), at: size - 4096)
            #expect(try file.seek(ct_seek_data, 0) == 16384)
            #expect(try file.seek(ct_seek_data, 17000) == 17000)
            #expect(try file.seek(ct_seek_hole, 17000) == 24576)
            #expect(try file.seek(ct_seek_hole, 30000) == 30000)
            #expect(try file.seek(ct_seek_data, 24576) == size - 4096)
            #expect(try file.seek(ct_seek_hole, size - 1) == size)
            try file.allocate(ct_punch | ct_keep_size, 16384, 8192)
            #expect(try file.seek(ct_seek_data, 0) == size - 4096)
            for whence in [ct_seek_data, ct_seek_hole] {
                #expect(failure { _ = try file.seek(whence, size) } == ENXIO)
                #expect(failure { _ = try file.seek(whence, -1) } == ENXIO)
            }
            #expect(try file.seek(SEEK_END, 0) == size)
        }
    }

    @Test func `with gathered writes no hole is reported while pages may be on their way`() throws {
        try withMount(cache: .writeback) { (fixture) throws in
            let size = 1 << 20
            let reader = try fixture.open(O_RDONLY)
            var writer: Descriptor? = try fixture.open()
            try writer?.write(pattern(4096, 1), at: 65536)
            #expect(try reader.seek(ct_seek_data, 0) == 0)
            #expect(try reader.seek(ct_seek_hole, 0) == size)
            #expect(try reader.status().st_blocks > 0)
            writer = nil
            // The last close sends the pages and then, later, the release: asking again waits for it.
            var found = try reader.seek(ct_seek_data, 0)
            while found == 0 { found = try reader.seek(ct_seek_data, 0) }
            #expect(found == 65536)
            #expect(try reader.seek(ct_seek_hole, 65536) == 69632)
        }
    }

    @Test(arguments: Access.all)
    func `an error of the store reaches the caller as it is`(access: Access) throws {
        try withMount(cache: access.cache) { (fixture) throws in
            let file = try fixture.open(O_RDWR | access.flags)
            fixture.image.fail(with: MountError(errno: EIO))
            #expect(failure { _ = try file.read(4096, at: 0) } == EIO)
            if !access.gathersWrites { #expect(failure { try file.write(pattern(4096, 1), at: 0) } == EIO) }
            #expect(failure { try file.sync() } == EIO)
            // A code that is no errno must not look like a success to the kernel.
            fixture.image.fail(with: MountError(errno: 0))
            #expect(failure { _ = try file.read(4096, at: 8192) } == EIO)
            fixture.image.fail(with: nil)
            #expect(try file.read(4096, at: 0).count == 4096)
        }
    }

    @Test(arguments: [CacheMode.writethrough, .none])
    func `a direct write of 1 MiB is one request, its data at a page boundary`(cache: CacheMode) throws {
        try withMount(size: 8 << 20, cache: cache) { (fixture) throws in
            let file = try fixture.open(O_RDWR | ct_direct)
            for index in 0..<8 { try file.write(pattern(1 << 20, UInt8(index)), at: index << 20) }
            let counters = fixture.image.counters
            #expect(counters.writes == 8)
            #expect(counters.largestWrite == 1 << 20)
            #expect(counters.unalignedBuffers == 0)
            for index in 0..<8 { #expect(try file.read(1 << 20, at: index << 20) == pattern(1 << 20, UInt8(index))) }
            #expect(fixture.image.counters.reads == 8)
            #expect(fixture.image.counters.largestRead == 1 << 20)
        }
    }
}
