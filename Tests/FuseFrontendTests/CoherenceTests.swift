internal import CMountTest
internal import FuseFrontend
internal import FuseTestSupport
internal import Glibc
internal import Testing

@Suite("Descriptors, mappings and the page cache see the same bytes", .serialized, needsFuse)
struct CoherenceTests {
    @Test(arguments: CacheMode.allCases)
    func `a reader with cached pages sees a direct write, and a direct reader a cached one`(cache: CacheMode) throws {
        try withMount(cache: cache) { (fixture) throws in
            let cached = try fixture.open()
            let direct = try fixture.open(O_RDWR | ct_direct)
            #expect(try cached.read(1 << 20, at: 0).allSatisfy { $0 == 0 })
            for round in 0..<50 {
                let value = UInt8(round + 1)
                try direct.write(pattern(8192, value), at: round * 8192)
                #expect(try cached.read(8192, at: round * 8192) == pattern(8192, value))
                try cached.write(pattern(100, value ^ 0x55), at: round * 8192 + 50)
                let expected =
                    Array(pattern(8192, value)[..<50]) + pattern(100, value ^ 0x55)
                    + Array(pattern(8192, value)[150...])
                #expect(try direct.read(8192, at: round * 8192) == expected)
            }
        }
    }

    @Test(arguments: CacheMode.allCases)
    func `a second cached reader is served from the page cache`(cache: CacheMode) throws {
        try withMount(cache: cache) { (fixture) throws in
            let file = try fixture.open()
            _ = try file.read(1 << 20, at: 0)
            let reads = fixture.image.counters.reads
            // Another open and an unrelated write must not make the kernel drop what it has.
            try file.write([1], at: 0)
            _ = try fixture.open(O_RDONLY).read(65536, at: 1 << 19)
            #expect((fixture.image.counters.reads == reads) == (cache != .none))
        }
    }

    @Test(arguments: Access.all)
    func `shared mappings read and write the volume`(access: Access) throws {
        try withMount(cache: access.cache) { (fixture) throws in
            let file = try fixture.open(O_RDWR | access.flags)
            let other = try fixture.open()
            try file.write(pattern(65536, 3), at: 0)
            let mapping = try file.map(1 << 20)
            #expect(Array(mapping[..<65536]) == pattern(65536, 3))
            for index in stride(from: 0, to: 1 << 20, by: 5000) { mapping[index] = UInt8(truncatingIfNeeded: index) }
            #expect(try other.read(1, at: 5000) == [UInt8(truncatingIfNeeded: 5000)])
            try other.write([77], at: 70001)
            #expect(mapping[70001] == 77)
            unmap(mapping)
            let bytes = fixture.image.bytes
            for index in stride(from: 0, to: 1 << 20, by: 5000) {
                #expect(bytes[index] == UInt8(truncatingIfNeeded: index))
            }
        }
    }

    @Test(arguments: CacheMode.allCases)
    func `a direct write shows in a mapping, and a mapping's change in a direct read`(cache: CacheMode) throws {
        try withMount(cache: cache) { (fixture) throws in
            let direct = try fixture.open(O_RDWR | ct_direct)
            let mapping = try fixture.open().map(1 << 20)
            defer { unmap(mapping) }
            for round in 0..<20 {
                #expect(mapping[round * 4096] == 0)
                try direct.write(pattern(4096, UInt8(round + 1)), at: round * 4096)
                #expect(Array(mapping[round * 4096..<round * 4096 + 4096]) == pattern(4096, UInt8(round + 1)))
                mapping[round * 4096 + 7] = 123
                #expect(try direct.read(4096, at: round * 4096)[7] == 123)
            }
        }
    }

    @Test(arguments: CacheMode.allCases)
    func `after a revert, readers, mappings and sizes show the new content`(cache: CacheMode) throws {
        try withMount(cache: cache) { (fixture) throws in
            let file = try fixture.open()
            try file.write(pattern(1 << 20, 1), at: 0)
            try file.sync()
            let before = fixture.image.copy()
            try file.write(pattern(1 << 20, 2), at: 0)
            let mapping = try fixture.open().map(1 << 20)
            defer { unmap(mapping) }
            #expect(mapping[4096] == pattern(4097, 2)[4096])
            mapping[9000] = 250
            fixture.mount.invalidateVolume()
            #expect(fixture.image.bytes[9000] == 250)
            fixture.image.revert(to: before)
            fixture.mount.invalidateVolume()
            #expect(try file.read(1 << 20, at: 0) == pattern(1 << 20, 1))
            #expect(Array(mapping) == pattern(1 << 20, 1))
            try file.sync()
            #expect(fixture.image.bytes == pattern(1 << 20, 1))
        }
    }

    @Test(arguments: CacheMode.allCases)
    func `a volume that has grown can be used to its new end`(cache: CacheMode) throws {
        try withMount(size: 1 << 20, capacity: 4 << 20, cache: cache) { (fixture) throws in
            let file = try fixture.open()
            try file.write(pattern(4096, 1), at: 0)
            #expect(try file.status().st_size == 1 << 20)
            fixture.image.resize(to: 4 << 20)
            fixture.mount.volumeResized()
            if fixture.mount.needsTruncateAfterResize { try check(truncate(fixture.path, 4 << 20)) }
            #expect(try file.status().st_size == 4 << 20)
            #expect(try status(fixture.path).st_size == 4 << 20)
            try file.write(pattern(8192, 2), at: (4 << 20) - 8192)
            #expect(try file.read(8192, at: (4 << 20) - 8192) == pattern(8192, 2))
            #expect(try file.read(4096, at: 0) == pattern(4096, 1))
            #expect(try file.read(4096, at: 2 << 20) == [UInt8](repeating: 0, count: 4096))
        }
    }

    @Test(arguments: CacheMode.allCases)
    func `readers beside writers see whole blocks, old or new`(cache: CacheMode) throws {
        try withMount(cache: cache) { (fixture) throws in
            let rounds = 200
            let writers = (0..<2).map { number in
                inThread {
                    guard let file = try? fixture.open(O_RDWR | (number == 0 ? ct_direct : 0)) else { return }
                    for round in 0..<rounds {
                        let value = [UInt8](repeating: UInt8(truncatingIfNeeded: round), count: 4096)
                        _ = try? file.write(value, at: number * 4096)
                    }
                }
            }
            let file = try fixture.open(O_RDONLY)
            let direct = try fixture.open(O_RDONLY | ct_direct)
            for round in 0..<rounds {
                for number in 0..<2 {
                    let block = try (round % 2 == 0 ? file : direct).read(4096, at: number * 4096)
                    #expect(block.allSatisfy { $0 == block[0] })
                }
            }
            for writer in writers { writer.wait() }
            for reader in [file, direct] {
                #expect(try reader.read(8192, at: 0).allSatisfy { $0 == UInt8(rounds - 1) })
            }
        }
    }
}
