internal import CMountTest
internal import FuseFrontend
internal import FuseTestSupport
internal import Glibc
internal import Testing

/// A long random mix of everything that changes or shows the volume, against a flat array. A failure names its seed;
/// FUSE_TEST_SEED=N runs that one again.
@Suite("Random use", .serialized, needsFuse)
struct RandomTests {
    private static var seed: UInt64 {
        if let text = getenv("FUSE_TEST_SEED"), let seed = UInt64(String(cString: text)) { return seed }
        return UInt64.random(in: 0...UInt64(UInt32.max))
    }

    @Test(arguments: CacheMode.allCases)
    func `any mix of reads, writes, holes and mappings matches a flat array`(cache: CacheMode) throws {
        let seed = Self.seed
        print("random use, \(cache.rawValue): FUSE_TEST_SEED=\(seed)")
        try withMount(size: 2 << 20, cache: cache) { (fixture) throws in
            var use = try RandomUse(fixture, seed: seed)
            defer { use.end() }
            for step in 0..<1500 {
                let what = try use.step()
                if let mistake = use.mistake {
                    Issue.record("seed \(seed), step \(step), \(what): \(mistake)")
                    return
                }
            }
            try use.cached.sync()
            #expect(fixture.image.bytes == use.model, "seed \(seed)")
            #expect(fixture.image.unflushed == 0)
        }
    }
}

private struct RandomUse {
    private let size: Int
    let cached: Descriptor
    private let direct: Descriptor
    private let durable: Descriptor
    private let mapping: UnsafeMutableRawBufferPointer
    private let fixture: Fixture
    private var generator: Generator
    private(set) var model: [UInt8]
    private(set) var mistake: String?

    init(_ fixture: Fixture, seed: UInt64) throws {
        self.fixture = fixture
        size = Int(fixture.image.size)
        cached = try fixture.open()
        direct = try fixture.open(O_RDWR | ct_direct)
        durable = try fixture.open(O_RDWR | O_DSYNC)
        mapping = try cached.map(size)
        generator = Generator(seed: seed)
        model = [UInt8](repeating: 0, count: size)
    }

    func end() { unmap(mapping) }

    /// One random act; what it was.
    mutating func step() throws -> String {
        switch generator.below(100) {
        case 0..<15: return try read(cached, "read", range(1))
        case 15..<25: return try read(direct, "direct read", range(512))
        case 25..<40: return try write(cached, "write", range(1))
        case 40..<52: return try write(direct, "direct write", range(512))
        case 52..<56: return try write(durable, "durable write", range(1))
        case 56..<66: return storeThroughMapping(range(1))
        case 66..<74: return loadThroughMapping(range(1))
        case 74..<80: return try empty(ct_punch | ct_keep_size, "punch", range(1))
        case 80..<86: return try empty(ct_zero_range, "zero", range(1))
        case 86..<88: return try reserve(range(1))
        case 88..<91: return try sync()
        case 91..<93: return try reopen()
        case 93..<95: return try seekAll()
        case 95..<97: return try writeAcrossTheEnd()
        default: return invalidate()
        }
    }

    /// A random range of `unit` alignment, small ones and neighbours of page boundaries more often than others.
    private mutating func range(_ unit: Int) -> Range<Int> {
        let limits = [64, 4096, 10_000, 65536, 300_000]
        let length = max(unit, generator.below(limits[generator.below(limits.count)]) / unit * unit)
        var start = generator.below(size - length) / unit * unit
        if generator.below(3) == 0 {
            start = max(0, min(size - length, start / 4096 * 4096 + (generator.below(3) - 1) * unit))
        }
        return start..<start + length
    }

    private mutating func expect(_ bytes: [UInt8], at range: Range<Int>) {
        let wanted = Array(model[range])
        if bytes == wanted { return }
        guard let index = bytes.indices.first(where: { $0 < wanted.count && bytes[$0] != wanted[$0] }) else {
            mistake = "\(bytes.count) bytes of \(wanted.count)"
            return
        }
        mistake = "byte \(range.lowerBound + index) is \(bytes[index]), not \(wanted[index])"
    }

    private mutating func read(_ file: Descriptor, _ name: String, _ range: Range<Int>) throws -> String {
        expect(try file.read(range.count, at: range.lowerBound), at: range)
        return "\(name) of \(range)"
    }

    private mutating func write(_ file: Descriptor, _ name: String, _ range: Range<Int>) throws -> String {
        let bytes = generator.bytes(range.count)
        let count = try file.write(bytes, at: range.lowerBound)
        model.replaceSubrange(range, with: bytes)
        if count != range.count { mistake = "\(count) bytes written" }
        return "\(name) of \(range)"
    }

    private mutating func storeThroughMapping(_ range: Range<Int>) -> String {
        let bytes = generator.bytes(range.count)
        UnsafeMutableRawBufferPointer(rebasing: mapping[range]).copyBytes(from: bytes)
        model.replaceSubrange(range, with: bytes)
        return "store to the mapping at \(range)"
    }

    private mutating func loadThroughMapping(_ range: Range<Int>) -> String {
        expect(Array(mapping[range]), at: range)
        return "load from the mapping at \(range)"
    }

    private mutating func empty(_ mode: Int32, _ name: String, _ range: Range<Int>) throws -> String {
        try (generator.below(2) == 0 ? cached : direct).allocate(mode, range.lowerBound, range.count)
        model.replaceSubrange(range, with: repeatElement(0, count: range.count))
        return "\(name) of \(range)"
    }

    private func reserve(_ range: Range<Int>) throws -> String {
        try cached.allocate(0, range.lowerBound, range.count)
        return "reservation of \(range)"
    }

    /// After an fsync the store holds everything, and durably.
    private mutating func sync() throws -> String {
        try cached.sync()
        expect(fixture.image.bytes, at: 0..<size)
        if fixture.image.unflushed != 0 { mistake = "\(fixture.image.unflushed) writes are not flushed" }
        return "fsync"
    }

    private mutating func reopen() throws -> String {
        let file = try fixture.open(O_RDWR | (generator.below(2) == 0 ? O_TRUNC : 0))
        return try read(file, "read after open", range(1))
    }

    /// What lies in a hole that is reported must be zeros, once all pages have been sent.
    private mutating func seekAll() throws -> String {
        try cached.sync()
        var offset = 0
        while offset < size {
            let hole = try cached.seek(ct_seek_hole, offset)
            if hole == size { break }
            let data = (try? cached.seek(ct_seek_data, hole)) ?? size
            if Array(model[hole..<data]) != [UInt8](repeating: 0, count: data - hole) {
                mistake = "the hole \(hole)..<\(data) holds data"
            }
            offset = data
        }
        return "seek"
    }

    private mutating func writeAcrossTheEnd() throws -> String {
        let fitting = 512 * (1 + generator.below(16))
        let bytes = generator.bytes(fitting + 4096)
        let count = try direct.write(bytes, at: size - fitting)
        if count != fitting { mistake = "\(count) bytes written, \(fitting) fit" }
        model.replaceSubrange(size - fitting..<size, with: bytes[..<fitting])
        return "write of \(bytes.count) bytes across the end"
    }

    private func invalidate() -> String {
        fixture.mount.invalidateVolume()
        return "invalidation"
    }
}
