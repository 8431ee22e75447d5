import Foundation
import Testing

extension EndToEnd {
    /// What the tool says of where data is and what changed, against the bytes themselves; and the ways in and out.
    @Suite(.needsMount) struct Differences {
        /// A volume with three snapshots, and the bytes of each and of the head.
        private func make(_ scratch: Scratch, seed: UInt64) throws -> (
            volume: Volume, states: [(name: String?, bytes: [UInt8])]
        ) {
            let volume = try Volume(in: scratch, size: "4M")
            var random = Random(seed: seed)
            var bytes = [UInt8](repeating: 0, count: 4 << 20)
            var states: [(name: String?, bytes: [UInt8])] = []
            try volume.mounted {
                let file = try UserFile(volume.file)
                for round in 0..<4 {
                    for _ in 0..<12 {
                        let length = 1 + random.below(40_000)
                        let offset = random.below(bytes.count - length)
                        let data = random.once(in: 3) ? [UInt8](repeating: 0, count: length) : random.bytes(length)
                        try #require(file.write(data, at: offset) == length)
                        bytes.replaceSubrange(offset..<offset + length, with: data)
                    }
                    let begin = random.below(900) * 4096
                    try #require(file.punch(begin, 65_536) == 0)
                    bytes.replaceSubrange(begin..<begin + 65_536, with: [UInt8](repeating: 0, count: 65_536))
                    try #require(file.syncData() == 0)
                    states.append((round < 3 ? "s\(round)" : nil, bytes))
                    if round < 3 { try volume.snapshot("s\(round)") }
                }
            }
            return (volume, states)
        }

        private func parse(_ text: String) throws -> Any { try JSONSerialization.jsonObject(with: Data(text.utf8)) }

        @Test(arguments: 1...UInt64(2 * Machine.scale))
        func `diff names every byte that changed, in each format`(seed: UInt64) throws {
            try Scratch.use { scratch in
                let (volume, states) = try make(scratch, seed: seed)
                for (older, newer) in [(0, 1), (0, 2), (1, 3), (2, 3), (0, 3)] {
                    let words =
                        ["\(volume.path)@s\(older)"] + (states[newer].name.map { ["\(volume.path)@\($0)"] } ?? [])
                    let document = try #require(
                        try parse(try volume.tool(["snapshot", "diff"] + words + ["--json"])) as? [String: Any])
                    let extents = try #require(document["extents"] as? [[String: Any]])
                    // The older state with the extents of the newer one laid over it must be the newer one.
                    var patched = states[older].bytes
                    var end = 0
                    for extent in extents {
                        let start = try #require(extent["start"] as? Int),
                            length = try #require(extent["length"] as? Int)
                        #expect(start >= end && length > 0, "extents overlap or are out of order: \(extents)")
                        end = start + length
                        let piece =
                            extent["exists"] as? Bool == true
                            ? Array(states[newer].bytes[start..<end]) : [UInt8](repeating: 0, count: length)
                        patched.replaceSubrange(start..<end, with: piece)
                    }
                    let difference = firstDifference(patched, states[newer].bytes)
                    #expect(difference == nil, "s\(older) to \(states[newer].name ?? "head"): byte \(difference ?? 0)")
                    let spans = extents.map { ($0["start"] as? Int ?? -1, $0["length"] as? Int ?? -1) }
                    let qemu = try #require(
                        try parse(try volume.tool(["snapshot", "diff"] + words + ["--format", "qemu-map"]))
                            as? [[String: Any]])
                    #expect(qemu.map { $0["start"] as? Int } == spans.map { $0.0 })
                    let rbd = try volume.tool(["snapshot", "diff"] + words + ["--format", "rbd-diff"]).split(
                        separator: "\n")
                    #expect(
                        rbd.dropFirst().map { $0.split(separator: " ").prefix(2).joined(separator: " ") }
                            == spans.map { "\($0.0) \($0.1)" })
                }
            }
        }

        @Test func `map covers the volume without a gap, and what it calls zero reads as zeros`() throws {
            try Scratch.use { scratch in
                let (volume, states) = try make(scratch, seed: 9)
                for state in states {
                    let target = volume.path + (state.name.map { "@" + $0 } ?? "")
                    let extents = try #require(
                        try parse(try volume.tool(["map", target, "--json"])) as? [[String: Any]])
                    var place = 0
                    for extent in extents {
                        let start = try #require(extent["start"] as? Int),
                            length = try #require(extent["length"] as? Int)
                        #expect(start == place && length > 0)
                        place = start + length
                        if extent["zero"] as? Bool == true || extent["present"] as? Bool == false {
                            #expect(state.bytes[start..<place].allSatisfy { $0 == 0 }, "\(target): \(extent)")
                        }
                    }
                    #expect(place == 4 << 20)
                }
            }
        }

        @Test func `export and import, raw and qcow2, to a file and to a pipe, keep every byte`() throws {
            try Scratch.use { scratch in
                let (volume, states) = try make(scratch, seed: 10)
                for state in states {
                    let target = volume.path + (state.name.map { "@" + $0 } ?? "")
                    let sum = try scratch.sum(of: state.bytes)
                    let raw = scratch.newPath("raw"), qcow = scratch.newPath("qcow2"), back = scratch.newPath("back")
                    try volume.tool(["export", target, raw])
                    try scratch.expectSum(raw, sum, "raw")
                    #expect(try UserFile(raw, O_RDONLY).allocated < 4 << 20, "the export is not sparse")
                    try volume.tool(["export", target, qcow, "--format", "qcow2"])
                    try scratch.must("qemu-img", "convert", "-O", "raw", qcow, back)
                    try scratch.expectSum(back, sum, "qcow2")
                    let piped = try scratch.must(
                        "bash", "-c", "set -o pipefail; \"$1\" export \"$2\" - | sha256sum", "sh", Machine.tool, target)
                    #expect(piped.hasPrefix(sum), "pipe")
                    let name = "again-" + (state.name ?? "head")
                    try volume.tool(["create", scratch(name), "--import", qcow, "--format", "qcow2"])
                    let same = try volume.attempt(["compare", scratch(name), target])
                    #expect(same.code == 0, "\(same)")
                    try volume.tool(["create", scratch(name + "-clone"), "--from", target])
                    let clone = try volume.attempt(["compare", scratch(name + "-clone"), raw])
                    #expect(clone.code == 0, "\(clone)")
                    let older = try volume.attempt(["compare", target, volume.path + "@s0"])
                    #expect(older.code == (state.name == "s0" ? 0 : 1), "\(older)")
                }
                let none = try volume.attempt(["compare", volume.path, scratch("none")])
                #expect(none.code == 2, "\(none)")
            }
        }

        @Test func `the space that list promises for a delete is given back`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "64M")
                try volume.mounted {
                    let file = try UserFile(volume.file)
                    var random = Random(seed: 1)
                    for name in ["a", "b"] {
                        try #require(file.write(random.bytes(8 << 20), at: 0) == 8 << 20)
                        try volume.snapshot(name)
                    }
                    try #require(file.write(random.bytes(8 << 20), at: 0) == 8 << 20)
                    try #require(file.sync() == 0)
                    func presentBytes() throws -> Int {
                        let document =
                            try parse(try volume.tool(["info", volume.path, "--chain", "--json"])) as? [String: Any]
                        let layers = document?["layers"] as? [[String: Any]] ?? []
                        return layers.reduce(0) { $0 + ($1["present"] as? Int ?? 0) }
                    }
                    let document = try parse(try volume.tool(["snapshot", "list", volume.path, "--json"]))
                    let listed =
                        document as? [[String: Any]] ?? (document as? [String: Any])?["snapshots"] as? [[String: Any]]
                    let promised = listed?.first { $0["name"] as? String == "b" }?["freed_if_deleted"] as? Int
                    let before = try presentBytes()
                    let said = try volume.tool(["snapshot", "delete", volume.path + "@b", "--yes", "--json"])
                    let summary = try parse(String(said.split(separator: "\n").last ?? "")) as? [String: Any]
                    #expect(summary?["freed"] as? Int == 8 << 20, "\(said)")
                    #expect(promised == 8 << 20, "\(String(describing: listed))")
                    #expect(before - (try presentBytes()) == 8 << 20)
                }
            }
        }
    }
}
