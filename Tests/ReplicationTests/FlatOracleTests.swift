import Glibc
import HostIO
import Primitives
import Replication
import Storage
import Testing

/// A volume on a real file system against a flat array.
@Suite struct `An engine on a real directory` {
    @Test(arguments: [UInt64(1), 2, 3, 4, 5, 6])
    func `reads what was written through writes, discards, snapshots, merges, reverts, resizes and reopens`(
        seed: UInt64
    ) throws {
        let scratch = try Scratch()
        var random = SplitMix(seed)
        let host = LinuxHost()
        let path = scratch.path + "/replica"
        var flat = [UInt8](repeating: 0, count: 6 << 20)
        var snapshots: [String: [UInt8]] = [:]
        try Engine.create(Engine.Specification(size: UInt64(flat.count)), path: path, host: host)
        var engine = try Engine.open(path: path, mode: .readWrite, host: host)
        var next = 0
        func compare(_ view: any VolumeView, _ expected: [UInt8], _ what: String) throws {
            var got = [UInt8](repeating: 0xEE, count: expected.count)
            try got.withUnsafeMutableBytes { try view.read(at: 0, into: $0) }
            if got != expected {
                let first = zip(got, expected).enumerated().first { $0.element.0 != $0.element.1 }!.offset
                Issue.record("\(what): byte \(first) (block \(first / 4096)) differs, seed \(seed)")
                throw Failure()
            }
        }
        for step in 0..<400 {
            switch random.below(40) {
            case 0..<22:
                let large = random.below(4) == 0
                let length = 1 + Int(random.below(large ? 700_000 : 20_000))
                let offset = Int(random.below(UInt64(flat.count)))
                let count = min(length, flat.count - offset)
                let aligned = random.below(2) == 0
                let start = aligned ? offset / 4096 * 4096 : offset
                let size = aligned ? max(4096, count / 4096 * 4096) : count
                if start + size > flat.count { continue }
                let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ step) }
                try bytes.withUnsafeBytes {
                    try engine.write($0, at: UInt64(start), durability: random.below(8) == 0 ? .durable : .ordinary)
                }
                flat.replaceSubrange(start..<(start + size), with: bytes)
            case 22..<28:
                let offset = Int(random.below(UInt64(flat.count)))
                let count = min(1 + Int(random.below(1_500_000)), flat.count - offset)
                try engine.empty(
                    at: UInt64(offset), length: UInt64(count), random.below(2) == 0 ? .zero : .discard,
                    durability: .ordinary)
                for index in offset..<(offset + count) { flat[index] = 0 }
            case 28: try engine.flush()
            case 29: try engine.settle()
            case 30..<33:
                let name = "s\(next)"
                next += 1
                _ = try engine.createSnapshot(name: name, labels: ["step": "\(step)"])
                snapshots[name] = flat
            case 33, 34:
                if let name = snapshots.keys.sorted().randomElement(using: &random) {
                    try engine.deleteSnapshot(name: name, rate: nil, progress: nil)
                    snapshots[name] = nil
                }
            case 35:
                if let name = snapshots.keys.sorted().randomElement(using: &random) {
                    let keep = random.below(2) == 0 ? "k\(next)" : nil
                    next += 1
                    try engine.revert(to: name, keepHead: keep)
                    if let keep { snapshots[keep] = flat }
                    flat = snapshots[name]!
                }
            case 36:
                let size = Int(4 + random.below(6)) << 20
                try engine.resize(to: UInt64(size))
                if size < flat.count { flat.removeSubrange(size...) }
                while flat.count < size { flat.append(contentsOf: [UInt8](repeating: 0, count: 4096)) }
            case 37:
                try engine.close()
                engine = try Engine.open(path: path, mode: .readWrite, host: host)
                #expect(engine.recovery.outcome == .clean)
            case 38:
                if let name = snapshots.keys.sorted().randomElement(using: &random) {
                    try compare(engine.openSnapshot(name: name), snapshots[name]!, "snapshot \(name)")
                }
            default: try compare(engine, flat, "head at step \(step)")
            }
        }
        try compare(engine, flat, "head")
        for name in snapshots.keys.sorted() {
            try compare(engine.openSnapshot(name: name), snapshots[name]!, "snapshot \(name)")
        }
        #expect(Set(engine.snapshots().map { $0.name }) == Set(snapshots.keys))
        let report = try engine.verify(quick: false, rate: nil, progress: nil)
        #expect(report.findings == [], "seed \(seed)")
        try engine.close()
    }
}

struct Failure: Error {}

/// A directory that goes away with the test.
final class Scratch {
    let path: String
    init() throws {
        var template = Array("/tmp/replica-store-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Failure() }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    deinit {
        let path = path
        let list = try? LinuxHost().openDirectory(path)
        if let list { Self.empty(list) }
        rmdir(path)
    }
    private static func empty(_ directory: any Directory) {
        for entry in (try? directory.list()) ?? [] {
            if entry.kind == .directory {
                if let inner = try? directory.openDirectory(entry.name) { empty(inner) }
                try? directory.removeDirectory(entry.name)
            } else {
                try? directory.remove(entry.name)
            }
        }
    }
}

/// splitmix64: small, seeded, the same everywhere.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
    mutating func below(_ limit: UInt64) -> UInt64 { next() % limit }
}
