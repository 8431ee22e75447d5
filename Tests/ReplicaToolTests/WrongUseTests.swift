import Glibc
import Primitives
import Testing

/// Wrong use of the built program: one clear line on standard error, and the exit code of the contract.
@Suite struct WrongUseTests {
    let scratch = Scratch()

    /// Expects the end, and one line that holds the word.
    private func expect(
        _ ended: Tool.Ended, _ code: Int32, _ word: String, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(ended.code == code, "\(ended.error)", sourceLocation: sourceLocation)
        #expect(ended.errorLines.count == 1, "\(ended.error)", sourceLocation: sourceLocation)
        #expect(ended.error.hasPrefix("replica-tool: "), "\(ended.error)", sourceLocation: sourceLocation)
        #expect(ended.error.contains(word), "\(ended.error)", sourceLocation: sourceLocation)
        #expect(ended.output.isEmpty, sourceLocation: sourceLocation)
    }

    @Test(arguments: [
        ["info"], ["status"], ["map"], ["verify"], ["inspect"], ["events"], ["snapshot", "list"], ["replica", "list"],
        ["list"],
        ["resize", "--", "1G"],
    ])
    func `a path that is not there is 10`(verb: [String]) {
        var words = verb
        words.insert(scratch.path + "/missing", at: verb.first == "resize" ? 2 : verb.count)
        expect(Tool.run(words), 10, "missing")
    }

    @Test(arguments: ["10GB", "5000", "0", "-4096", "abc", "1.3K", "65T", ""])
    func `a bad size is 64, and nothing is made`(size: String) {
        expect(Tool.run("create", scratch.path + "/v", "--size=" + size), 64, size)
        #expect(access(scratch.path + "/v", F_OK) != 0)
    }

    @Test(arguments: ["-x", ".x", "a b", "ä", ""])
    func `a bad snapshot name is 64`(name: String) {
        expect(Tool.run("snapshot", "create", scratch.path + "/v@" + name), 64, "snapshot")
    }

    @Test func `a verb that takes a snapshot says so`() {
        expect(Tool.run("snapshot", "delete", scratch.path), 64, "@NAME")
        expect(Tool.run("resize", scratch.path + "@s", "1G"), 64, "as a whole")
    }

    @Test(arguments: [
        [], ["nonsense"], ["snapshot"], ["replica"], ["info"], ["info", "a", "b"], ["info", "--nonsense", "a"],
        ["create", "v", "--size"],
        ["create", "v", "--size", "1G", "--replicas", "x"], ["bench", "f", "--depth", "many"], ["rebuild", "v"],
        ["salvage", "v"],
        ["replica", "add", "v"], ["completion", "tcsh"], ["info", "a", "--output", "xml"],
        ["info", "a", "--progress", "often"],
    ])
    func `wrong words are 64`(words: [String]) { expect(Tool.run(words), 64, "") }

    @Test func `more than one replica is refused clearly`() {
        expect(Tool.run("create", scratch.path + "/v", "--size", "64M", "--replicas", "2"), 64, "one replica")
        #expect(access(scratch.path + "/v", F_OK) != 0)
    }

    @Test func `a directory of somebody else is left alone`() {
        let foreign = scratch.folder("foreign")
        _ = scratch.file("foreign/precious", [1, 2, 3])
        expect(Tool.run("create", foreign, "--size", "64M"), 64, "not empty")
        expect(Tool.run("info", foreign), 63, "neither")
        expect(Tool.run("mount", foreign, scratch.folder("mnt")), 63, "neither")
        #expect(access(foreign + "/precious", F_OK) == 0)
        #expect(access(foreign + "/volume.json", F_OK) != 0)
    }

    @Test func `a file, and a Longhorn directory, are not supported formats`() {
        expect(Tool.run("info", scratch.file("file")), 63, "is a file")
        let longhorn = scratch.folder("longhorn")
        _ = scratch.file("longhorn/volume.meta", Array("{}".utf8))
        expect(Tool.run("info", longhorn), 63, "Longhorn")
        expect(Tool.run("import", longhorn, scratch.path + "/v"), 63, "Longhorn")
    }

    @Test func `a newer volume is 63, a broken record without a replica 2`() {
        let volume = scratch.folder("new")
        _ = scratch.file("new/volume.json", Array(#"{"format_version":9,"uuid":"x"}"#.utf8))
        expect(Tool.run("info", volume), 63, "newer")
        let broken = scratch.folder("broken")
        _ = scratch.file("broken/volume.json", Array("{".utf8))
        expect(Tool.run("info", broken), 2, "volume.json")
        let outside = scratch.folder("outside")
        _ = scratch.file(
            "outside/volume.json",
            Array(
                #"{"format_version":1,"uuid":"00000000-0000-4000-8000-000000000000","size":4096,"replicas":["../x"]}"#
                    .utf8))
        expect(Tool.run("info", outside), 2, "inside")
    }

    @Test func `the parent of a new volume must be there`() {
        expect(Tool.run("create", scratch.path + "/a/b", "--size", "64M"), 10, "/a")
    }

    @Test func `no permission is said as that`() throws {
        // Root may do everything, so the tool is run as nobody.
        try #require(geteuid() == 0 || access("/root", R_OK) != 0)
        let closed = scratch.folder("closed")
        _ = scratch.file("closed/volume.json")
        chmod(closed, 0)
        defer { chmod(closed, 0o700) }
        if geteuid() != 0 { expect(Tool.run("info", closed), 1, "Permission denied") }
    }

    @Test func `errors are JSON when JSON is asked for, also for wrong words`() {
        for words in [
            ["info", "/missing", "--json"], ["--json", "info", "/missing"], ["info", "/missing", "--output", "json"],
        ] {
            let ended = Tool.run(words)
            #expect(ended.code == 10)
            #expect(ended.errorJSON?["message_type"]?.text == "exit_error")
            #expect(ended.errorJSON?["code"]?.int == 10)
            #expect(ended.errorJSON?["message"]?.text?.contains("/missing") == true)
        }
        #expect(Tool.run("info", "--json").errorJSON?["code"]?.int == 64)
        let variable = Tool.run(["info", "/missing"], environment: ["REPLICA_TOOL_OUTPUT": "json"])
        #expect(variable.errorJSON?["code"]?.int == 10)
        expect(
            Tool.run(["info", "/missing"], environment: ["REPLICA_TOOL_PROGRESS": "often"]), 64, "REPLICA_TOOL_PROGRESS"
        )
    }

    @Test func `compare has its own codes`() {
        let one = scratch.file("one", [UInt8](repeating: 1, count: 10_000))
        let two = scratch.file("two", [UInt8](repeating: 1, count: 9_999) + [2])
        let short = scratch.file("short", [UInt8](repeating: 1, count: 9_999))
        #expect(Tool.run("compare", one, one).code == 0)
        let differs = Tool.run("compare", one, two, "--json")
        #expect(differs.code == 1)
        #expect(differs.summary?["differences"]?.items?.first?["start"]?.int == 8192)
        #expect(differs.summary?["differences"]?.items?.first?["length"]?.int == 10_000 - 8192)
        #expect(Tool.run("compare", one, short).code == 1)
        expect(Tool.run("compare", one, scratch.path + "/missing"), 2, "missing")
    }

    @Test func `writing a benchmark over a file needs a yes`() {
        let file = scratch.file("data", [UInt8](repeating: 7, count: 8192))
        expect(Tool.run("bench", file, "--rw", "write", "--seconds", "1"), 64, "--yes")
        #expect(Tool.run("compare", file, scratch.file("same", [UInt8](repeating: 7, count: 8192))).code == 0)
        let ended = Tool.run(
            "bench", file, "--rw", "randrw", "--seconds", "1", "--yes", "--json", "--fsync", "1000", "--progress",
            "never")
        #expect(ended.code == 0)
        #expect((ended.summary?["read"]?["operations"]?.count ?? 0) > 0)
        #expect((ended.summary?["write"]?["latency_p999_ns"]?.count ?? 0) > 0)
    }

    @Test func `what is no mount cannot be unmounted`() {
        expect(Tool.run("umount", scratch.folder("plain")), 10, "nothing of replica-tool")
        expect(Tool.run("umount", scratch.path + "/missing"), 10, "missing")
    }

    @Test func `help and version end well, on standard output`() {
        for words in [
            ["--help"], ["help"], ["help", "snapshot", "create"], ["mount", "--help"], ["--version"],
            ["completion", "bash"], ["completion", "zsh"], ["completion", "fish"],
        ] {
            let ended = Tool.run(words)
            #expect(ended.code == 0)
            #expect(!ended.output.isEmpty)
            #expect(ended.error.isEmpty)
        }
    }

    @Test func `a list of an empty directory is empty`() {
        let ended = Tool.run("list", scratch.path, "--json")
        #expect(ended.code == 0)
        #expect(ended.json?["items"]?.items?.isEmpty == true)
        #expect(ended.json?["schema_version"]?.int == 1)
    }
}
