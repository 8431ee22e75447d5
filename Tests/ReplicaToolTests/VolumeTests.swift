import Glibc
import Primitives
import Testing

/// The verbs on real volumes, through the built program.
@Suite struct VolumeTests {
    let scratch = Scratch()
    var volume: String { scratch.path + "/vol" }

    private func done(_ words: String..., sourceLocation: SourceLocation = #_sourceLocation) -> Tool.Ended {
        let ended = Tool.run(words)
        #expect(ended.code == 0, "\(words): \(ended.error)", sourceLocation: sourceLocation)
        return ended
    }

    private func image(_ name: String, _ count: Int, seed: UInt64, holes: Bool = true) -> String {
        var state = seed
        var bytes = [UInt8](repeating: 0, count: count)
        for index in 0..<count {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            // Every other 64 KiB stays zero.
            if !holes || index / 65536 % 2 == 0 { bytes[index] = UInt8(truncatingIfNeeded: state >> 56) }
        }
        return scratch.file(name, bytes)
    }

    @Test func `a new volume says what it is, in text and in JSON`() {
        let made = done("create", volume, "--size", "64M", "--label", "a=b", "--label", "c=d", "--json")
        let uuid = made.json?["uuid"]?.text
        #expect(made.json?["size"]?.count == 64 << 20)
        #expect(done("info", volume).output.contains("64 MiB"))
        let info = done("info", volume, "--json", "--chain").json
        #expect(info?["schema_version"]?.int == 1)
        #expect(info?["kind"]?.text == "volume")
        #expect(info?["uuid"]?.text == uuid)
        #expect(info?["labels"]?.texts == ["a": "b", "c": "d"])
        #expect(info?["layers"]?.items?.count == 1)
        let replica = done("info", volume + "/replica-1", "--json").json
        #expect(replica?["kind"]?.text == "replica")
        #expect(replica?["uuid"]?.text == uuid)
        #expect(done("list", scratch.path, "--json").json?["items"]?.items?.first?["uuid"]?.text == uuid)
        #expect(done("status", volume, "--json").json?["state"]?.text == "healthy")
        #expect(Tool.run("create", volume, "--size", "64M").code == 11)
    }

    @Test func `a volume without its record is still a volume`() {
        _ = done("create", volume, "--size", "64M")
        unlink(volume + "/volume.json")
        let ended = done("info", volume, "--json")
        #expect(ended.json?["size"]?.count == 64 << 20)
        #expect(ended.error.contains("volume.json"))
        _ = scratch.file("vol/volume.json", Array("{ half".utf8))
        #expect(done("info", volume, "--json").json?["size"]?.count == 64 << 20)
    }

    @Test func `what is imported is exported, byte by byte, and sparse`() {
        let source = image("source", 3_000_000, seed: 1)
        _ = done("import", source, volume)
        let exported = scratch.path + "/exported"
        _ = done("export", volume, exported)
        var info = stat()
        #expect(stat(exported, &info) == 0)
        // Rounded up to whole blocks; mode 0600; holes where the source has zeros.
        #expect(info.st_size == 3_002_368)
        #expect(info.st_mode & 0o777 == 0o600)
        #expect(info.st_blocks * 512 < 2_000_000)
        _ = done("compare", volume, exported)
        let refused = Tool.run("export", volume, exported)
        #expect(refused.code == 64)
        #expect(refused.error.contains("--yes"))
        let overwritten = image("source", 3_002_368, seed: 2)
        #expect(Tool.run("import", overwritten, volume).code == 64)
        _ = done("import", overwritten, volume, "--yes")
        #expect(Tool.run("compare", volume, exported).code == 1)
        _ = done("export", volume, exported, "--yes")
        _ = done("compare", exported, overwritten)
        #expect(Tool.run("import", image("large", 4_000_000, seed: 3), volume, "--yes").code == 64)
    }

    @Test func `a snapshot stays what it was, and everything about it is shown`() {
        let first = image("first", 1 << 20, seed: 1)
        let second = image("second", 1 << 20, seed: 2)
        _ = done("import", first, volume)
        _ = done("snapshot", "create", volume + "@monday", "--label", "day=1")
        _ = done("import", second, volume, "--yes")
        _ = done("compare", volume + "@monday", first)
        _ = done("compare", volume, second)
        let listed = done("snapshot", "list", volume, "--json").json?["snapshots"]?.items?.first
        #expect(listed?["name"]?.text == "monday")
        #expect(listed?["labels"]?.texts == ["day": "1"])
        #expect(listed?["present"]?.count == 1 << 19)
        #expect(done("snapshot", "list", volume).output.contains("(head)"))
        let map = done("map", volume + "@monday", "--json").json?.items
        #expect(map?.first?["length"]?.count == 65536)
        #expect(map?.first?["snapshot"]?.text == "monday")
        #expect(map?.reduce(0) { $0 + ($1["length"]?.count ?? 0) } == 1 << 20)
        let diff = done("snapshot", "diff", volume + "@monday", "--json").json?["extents"]?.items
        #expect(diff?.count == 8)
        #expect(
            done("snapshot", "diff", volume + "@monday", "--format", "rbd-diff").output.hasPrefix(
                "Offset Length Type\n0 65536 data\n"))
        #expect(done("snapshot", "diff", volume + "@monday", "--format", "qemu-map").json?.items?.count == 8)
        _ = done("snapshot", "revert", volume + "@monday")
        _ = done("compare", volume, first)
        _ = done("compare", volume + "@before-revert-1", second)
        _ = done("snapshot", "rename", volume + "@before-revert-1", "tuesday")
        _ = done("snapshot", "protect", volume + "@tuesday")
        #expect(Tool.run("snapshot", "delete", volume + "@tuesday", "--yes").code == 11)
        _ = done("snapshot", "unprotect", volume + "@tuesday")
        #expect(Tool.run("snapshot", "delete", volume + "@tuesday").code == 64)
        #expect(done("snapshot", "delete", volume + "@tuesday", "--dry-run").output.contains("512 KiB"))
        _ = done("snapshot", "delete", volume + "@tuesday", "--yes")
        #expect(Tool.run("info", volume + "@tuesday").code == 10)
        _ = done("snapshot", "delete", volume + "@monday", "--yes")
        _ = done("compare", volume, first)
        _ = done("verify", volume)
    }

    @Test func `a snapshot that is not there is 10, and the error stands alone`() {
        _ = done("create", volume, "--size", "64M")
        for words in [
            ["map"], ["snapshot", "diff"], ["info"], ["snapshot", "delete", "--yes"], ["snapshot", "protect"],
            ["snapshot", "revert"],
        ] {
            let ended = Tool.run(words + [volume + "@none"])
            #expect(ended.code == 10, "\(words)")
            #expect(ended.output.isEmpty)
            #expect(ended.errorLines.count == 1)
        }
        _ = done("snapshot", "create", volume + "@s")
        #expect(Tool.run("snapshot", "create", volume + "@s").code == 11)
    }

    @Test func `a clone has the content of its source and a life of its own`() {
        let content = image("content", 1 << 20, seed: 5)
        _ = done("import", content, volume)
        _ = done("create", scratch.path + "/clone", "--from", volume, "--size", "2M")
        _ = done("create", scratch.path + "/second", "--import", content)
        _ = done("compare", scratch.path + "/second", content)
        let difference = Tool.run("compare", scratch.path + "/clone", content, "--json")
        #expect(difference.code == 1)
        #expect(difference.summary?["differences"]?.items?.isEmpty == true)
        let ids = ["vol", "clone", "second"].map { done("info", scratch.path + "/" + $0, "--json").json?["uuid"]?.text }
        #expect(Set(ids).count == 3)
        #expect(Tool.run("create", scratch.path + "/small", "--from", volume, "--size", "4096").code == 64)
        #expect(access(scratch.path + "/small", F_OK) != 0)
    }

    @Test func `a resize keeps the content, and asks before it cuts some off`() {
        let content = image("content", 1 << 20, seed: 6)
        _ = done("import", content, volume)
        _ = done("resize", volume, "+1M")
        #expect(done("info", volume, "--json").json?["size"]?.count == 2 << 20)
        #expect(done("list", scratch.path, "--json").json?["items"]?.items?.first?["size"]?.count == 2 << 20)
        #expect(Tool.run("resize", volume, "1M").code == 64)
        #expect(Tool.run("resize", volume, "1M", "--shrink").code == 64)
        _ = done("resize", volume, "1M", "--shrink", "--yes")
        _ = done("compare", volume, content)
        #expect(done("resize", volume, "8M", "-n", "--json").json?["dry_run"]?.flag == true)
        #expect(done("info", volume, "--json").json?["size"]?.count == 1 << 20)
    }

    @Test func `a flipped byte is named by verify with 2, and nothing reads it`() throws {
        _ = done("import", image("content", 1 << 20, seed: 7, holes: false), volume)
        _ = done("snapshot", "create", volume + "@s")
        let layers = volume + "/replica-1/layers"
        let layer = try #require(
            done("info", volume, "--chain", "--json").json?["layers"]?.items?.first?["layer"]?.text)
        let descriptor = open("\(layers)/\(layer).img", O_RDWR)
        var byte: UInt8 = 0
        #expect(pread(descriptor, &byte, 1, 300_000) == 1)
        byte ^= 1
        #expect(pwrite(descriptor, &byte, 1, 300_000) == 1)
        close(descriptor)
        let found = Tool.run("verify", volume, "--json")
        #expect(found.code == 2)
        let lines = found.output.split(separator: "\n").compactMap { try? JSON(parsing: String($0)) }
        let finding = lines.first { $0["message_type"]?.text == "error" }
        #expect(finding?["start"]?.count == 299_008)
        #expect(finding?["length"]?.count == 4096)
        #expect(finding?["snapshot"]?.text == "s")
        #expect(lines.last?["message_type"]?.text == "summary")
        #expect(Tool.run("verify", volume, "--quick").code == 0)
        let exported = scratch.path + "/exported"
        #expect(Tool.run("export", volume, exported).code == 2)
        #expect(access(exported, F_OK) != 0)
        #expect(Tool.run("compare", volume, volume + "@s").code == 2)
    }

    @Test func `inspect decodes a replica, and says which slot is damaged`() {
        _ = done("create", volume, "--size", "64M")
        let whole = done("inspect", volume, "--json").json
        #expect(whole?["super"]?.items?.map { $0["state"]?.text } == ["good", "good"])
        #expect(whole?["chain"]?["copies"]?.items?.allSatisfy { $0["state"]?.text == "good" } == true)
        #expect(done("inspect", volume).output.contains("super:"))
        let descriptor = open(volume + "/replica-1/super", O_RDWR)
        #expect(pwrite(descriptor, "X", 1, 100) == 1)
        close(descriptor)
        let damaged = done("inspect", volume, "--json").json?["super"]?.items
        #expect(damaged?.first?["state"]?.text?.hasPrefix("damaged") == true)
        #expect(damaged?.last?["state"]?.text == "good")
    }

    @Test func `events of a volume at rest list what exists, and end`() {
        _ = done("create", volume, "--size", "64M")
        _ = done("snapshot", "create", volume + "@s")
        let lines = done("events", volume).output.split(separator: "\n").compactMap { try? JSON(parsing: String($0)) }
        #expect(lines.map { $0["object"]?.text } == ["volume", "replica", "snapshot"])
        #expect(lines.allSatisfy { $0["event"]?.text == "exists" && $0["schema_version"]?.int == 1 })
    }

    @Test func `a creation that fails leaves nothing behind`() {
        let large = Tool.run("create", volume, "--size", "64M", "--journal-size", "64T")
        #expect(large.code == 64)
        #expect(access(volume, F_OK) != 0)
        // An empty directory of the user's stays, empty.
        let empty = scratch.folder("empty")
        #expect(Tool.run("create", empty, "--size", "64M", "--journal-size", "64T").code == 64)
        #expect(access(empty, F_OK) == 0)
        #expect(rmdir(empty) == 0)
    }
}
