import HostIO
import Primitives
import Storage
import Testing

@testable import replica_tool

@Suite struct DocumentTests {
    private func keys(_ json: JSON) -> [String] { json.members?.map(\.name) ?? [] }
    private let info = SnapshotInfo(
        name: "s", layer: Identifier(high: 1, low: 2), parent: "p", created: WallTime(seconds: 0, nanoseconds: 0),
        labels: ["b": "2", "a": "1"], isProtected: true, revision: 7, size: 4096, isInLiveChain: true,
        isHeadParent: false)
    private let usage = LayerUsage(
        snapshot: "s", layer: Identifier(high: 1, low: 2), presentBytes: 1, exclusiveBytes: 2, freedIfDeletedBytes: 3,
        allocatedBytes: 4, isBeingDeleted: false)

    @Test func `a snapshot has the keys of the contract`() {
        let json = info.json(usage)
        #expect(
            Set(keys(json)).isSuperset(of: [
                "name", "created", "present", "exclusive", "freed_if_deleted", "parent", "labels",
            ]))
        #expect(json["created"]?.text == "1970-01-01T00:00:00.000Z")
        #expect(json["freed_if_deleted"]?.count == 3)
        #expect(json["labels"]?.description == #"{"a":"1","b":"2"}"#)
    }

    @Test func `an extent has the keys of qemu-img map`() {
        let data = MapExtent(
            start: 0, length: 4096, depth: 1, layer: Identifier(high: 1, low: 2), snapshot: "s", isZero: false
        ).json
        #expect(keys(data) == ["start", "length", "depth", "present", "zero", "data", "layer", "snapshot"])
        #expect(data["data"]?.flag == true)
        let hole = MapExtent(start: 0, length: 4096, depth: nil, layer: nil, snapshot: nil, isZero: true).json
        #expect(hole["present"]?.flag == false)
        #expect(hole["data"]?.flag == false)
    }

    @Test func `every document begins with its schema version`() {
        #expect(JSON.document(["a": 1]).description == #"{"schema_version":1,"a":1}"#)
    }

    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"), (-1, "1969-12-31T23:59:59.000Z"),
        ] as [(Int64, String)])
    func `times are RFC 3339, and read back`(seconds: Int64, text: String) {
        let time = WallTime(seconds: seconds, nanoseconds: 0)
        #expect(time.rfc3339 == text)
        #expect(WallTime(rfc3339: text) == time)
    }

    @Test(arguments: [
        "", "2024-02-30T00:00:00.000Z", "2024-13-01T00:00:00.000Z", "2024-01-01 00:00:00.000Z",
        "2024-01-01T24:00:00.000Z",
    ])
    func `what is no time is not read`(text: String) { #expect(WallTime(rfc3339: text) == nil) }

    @Test func `a table has aligned columns and no spaces at its ends`() {
        var table = Table([("NAME", .left), ("SIZE", .right), ("X", .left)])
        table.add(["a", "10 GiB", ""])
        table.add(["longer", "1 B", "y"])
        #expect(table.text == "NAME      SIZE  X\na       10 GiB\nlonger     1 B  y\n")
    }

    @Test func `the tree shows branches, and where the head stands`() {
        func snapshot(_ name: String, _ parent: String?, head: Bool = false) -> JSON {
            [
                "name": .string(name), "parent": JSON(parent), "created": "t", "present": 0, "exclusive": 0,
                "freed_if_deleted": 0, "head_parent": .bool(head),
            ]
        }
        let text = SnapshotTree.text(
            [snapshot("a", nil), snapshot("b", "a"), snapshot("c", "a", head: true), snapshot("d", "b")], head: nil)
        let names = text.split(separator: "\n").dropFirst().map { String($0.prefix(9)).trimmingSpaces }
        #expect(names == ["a", "├─ b", "│  d", "└─ c", "   (head)"])
    }

    @Test func `percentiles of a histogram are right to two per cent`() {
        var latencies = Latencies()
        for value in 1...100_000 { latencies.add(UInt64(value)) }
        for (share, exact) in [(0.5, 50_000.0), (0.95, 95_000), (0.99, 99_000), (0.999, 99_900)] {
            let found = Double(latencies.percentile(share))
            #expect(found >= exact && found <= exact * 1.02)
        }
        #expect(latencies.percentile(1) == 100_000)
        #expect(Latencies().percentile(0.5) == 0)
    }

    @Test func `mount points with spaces are read from the mount table`() {
        let text = """
            22 1 7:3 / /mnt/a\\040b\\134c rw shared:1 - fuse.replica-store /vol\\0401 rw
            23 1 0:5 / /dev rw - devtmpfs udev rw
            garbage
            24 1 0:6 / /short rw

            """
        let entries = MountEntry.parse(text)
        #expect(entries.count == 2)
        #expect(
            entries.first
                == MountEntry(device: "7:3", mountpoint: "/mnt/a b\\c", type: "fuse.replica-store", source: "/vol 1"))
        #expect(entries.first?.isOurs == true)
    }

    @Test func `there is a manual page for each verb`() throws {
        let pages = try ManPage.all()
        let names = Set(pages.map(\.name))
        #expect(
            names.isSuperset(of: [
                "replica-tool", "replica-tool-create", "replica-tool-snapshot-create", "replica-tool-umount",
            ]))
        for page in pages {
            #expect(page.text.contains(".SH SYNOPSIS"))
            #expect(page.text.contains(".SH EXIT STATUS"))
            // A line of text that begins with a point would be lost.
            let requests = Set(
                page.text.split(separator: "\n").filter { $0.hasPrefix(".") }.map { $0.prefix { $0 != " " } })
            #expect(requests.isSubset(of: [".TH", ".SH", ".B", ".I", ".TP", ".PP"]))
        }
    }
}

extension String {
    var trimmingSpaces: String {
        var text = self
        while text.hasSuffix(" ") { text.removeLast() }
        return text
    }
}
