internal import CMountTest
internal import FuseFrontend
internal import FuseTestSupport
internal import Glibc
internal import Testing

@Suite("What is durable when a call returns", .serialized, needsFuse)
struct DurabilityTests {
    @Test(arguments: Access.all, [O_DSYNC, O_SYNC])
    func `a write through O_DSYNC or O_SYNC is durable when it returns`(access: Access, flag: Int32) throws {
        try withMount(cache: access.cache) { (fixture) throws in
            let file = try fixture.open(O_RDWR | flag | access.flags)
            for index in 0..<8 {
                try file.write(pattern(4096, UInt8(index)), at: index * 8192)
                #expect(fixture.image.unflushed == 0)
                #expect(Array(fixture.image.bytes[index * 8192..<index * 8192 + 4096]) == pattern(4096, UInt8(index)))
            }
            try file.allocate(ct_punch | ct_keep_size, 0, 4096)
            #expect(fixture.image.unflushed == 0)
        }
    }

    @Test(arguments: Access.all)
    func `a single write with RWF_DSYNC is durable, the others are not flushed one by one`(access: Access) throws {
        try withMount(cache: access.cache) { (fixture) throws in
            let file = try fixture.open(O_RDWR | access.flags)
            try file.write(pattern(4096, 1), at: 0)
            let before = fixture.image.counters
            #expect(before.flushes == 0)
            #expect(before.durableWrites == 0)
            try withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 4096) { buffer in
                buffer.copyBytes(from: pattern(4096, 2))
                let wrote = ct_pwrite_dsync(file.number, buffer.baseAddress, 4096, 65536)
                if wrote < 0 { throw Failed(code: Int32(-wrote)) }
            }
            #expect(fixture.image.unflushed == 0)
            #expect(Array(fixture.image.bytes[65536..<69632]) == pattern(4096, 2))
        }
    }

    @Test(arguments: Access.all)
    func `fsync, fdatasync and msync make everything before durable`(access: Access) throws {
        try withMount(cache: access.cache) { (fixture) throws in
            let file = try fixture.open(O_RDWR | access.flags)
            try file.write(pattern(8192, 1), at: 0)
            try file.sync()
            #expect(fixture.image.unflushed == 0)
            #expect(fixture.image.counters.flushes >= 1)
            #expect(Array(fixture.image.bytes[..<8192]) == pattern(8192, 1))
            try file.write(pattern(8192, 2), at: 8192)
            try file.syncData()
            #expect(fixture.image.unflushed == 0)
            #expect(Array(fixture.image.bytes[8192..<16384]) == pattern(8192, 2))
            let mapping = try file.map(1 << 20)
            defer { unmap(mapping) }
            mapping[20000] = 99
            try check(msync(mapping.baseAddress, mapping.count, MS_SYNC))
            #expect(fixture.image.unflushed == 0)
            #expect(fixture.image.bytes[20000] == 99)
        }
    }

    @Test func `fsync of a descriptor that only reads flushes what others wrote`() throws {
        try withMount { (fixture) throws in
            let reader = try fixture.open(O_RDONLY)
            try fixture.open().write(pattern(4096, 1), at: 0)
            try reader.sync()
            #expect(fixture.image.unflushed == 0)
        }
    }

    @Test func `a failed flush is told by fsync`() throws {
        try withMount { (fixture) throws in
            let file = try fixture.open()
            try file.write(pattern(4096, 1), at: 0)
            fixture.image.fail(with: MountError(errno: EIO))
            #expect(failure { try file.sync() } == EIO)
            #expect(failure { try file.syncData() } == EIO)
        }
    }

    @Test func `a close sends every page that the kernel has gathered`() throws {
        try withMount(cache: .writeback) { (fixture) throws in
            do {
                let file = try fixture.open()
                for index in 0..<64 { try file.write(pattern(3000, UInt8(index)), at: index * 16000) }
            }
            let bytes = fixture.image.bytes
            for index in 0..<64 {
                #expect(Array(bytes[index * 16000..<index * 16000 + 3000]) == pattern(3000, UInt8(index)))
            }
        }
    }
}
