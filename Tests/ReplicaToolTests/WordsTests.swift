import HostIO
import Primitives
import Storage
import Testing

@testable import replica_tool

@Suite struct SizeTests {
    @Test(
        arguments: [
            ("4096", 4096), ("1K", 1024), ("4KiB", 4096), ("10G", 10 << 30), ("10GiB", 10 << 30), ("1.5T", 3 << 39),
            ("0.5K", 512),
            ("64T", 64 << 40), ("1P", 1 << 50), ("512B", 512), ("2.25M", 2_359_296),
        ] as [(String, UInt64)])
    func `a size is read with binary units`(text: String, bytes: UInt64) throws {
        #expect(try SizeText.bytes(text) == bytes)
    }

    @Test(arguments: [
        "", "G", "10GB", "10gb", "10g", "10k", "10KB", "-5", "0", "0G", "1.3K", "1.", ".5G", "1..5G", "1e9", "0x10",
        " 10G", "10 G", "10GiBs",
        "99999999999999999999", "99999999999999P", "1.0000001G", "١٠G", "10G\n",
    ])
    func `what is no size is refused with the right spelling`(text: String) {
        let error = #expect(throws: ToolError.self) { try SizeText.bytes(text) }
        #expect(error?.exit == .usage)
        #expect(error?.message.contains("write") == true)
    }

    @Test func `a decimal unit is answered with the binary ones`() {
        let error = #expect(throws: ToolError.self) { try SizeText.bytes("10GB") }
        #expect(error?.message.contains("10G or 10GiB") == true)
    }

    @Test(arguments: ["5000", "1K", "4097", "65T", "64T1"])
    func `a volume's size is whole blocks, 64 TiB at most`(text: String) {
        #expect(throws: ToolError.self) { try SizeText.volumeSize(text) }
    }

    @Test func `an unaligned size is answered with its neighbours`() {
        let error = #expect(throws: ToolError.self) { try SizeText.volumeSize("5000") }
        #expect(error?.message.contains("4096 or 8192") == true)
    }

    @Test(
        arguments: [
            (0, "0 B"), (512, "512 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (10 << 30, "10 GiB"),
            ((1 << 40) - 1, "1023.9 GiB"), (UInt64.max, "16383.9 PiB"),
        ] as [(UInt64, String)])
    func `sizes are shown with one digit behind the point`(bytes: UInt64, text: String) {
        #expect(SizeText.human(bytes) == text)
    }
}

@Suite struct AddressTests {
    @Test func `what stands behind the last at-sign is the snapshot`() throws {
        #expect(try Address("vol").snapshot == nil)
        #expect(try Address("a/b@monday") == Address("a/b/@monday"))
        #expect(try Address("me@host/vol@s").path == "me@host/vol")
        #expect(try Address("me@host/vol").snapshot == nil)
        #expect(try Address("/").path == "/")
        #expect(try Address("vol//").path == "vol")
    }

    @Test func `a directory with an at-sign in its name is a path`() throws {
        let scratch = Scratch()
        let folder = scratch.folder("vol@home")
        #expect(try Address(folder).snapshot == nil)
        #expect(try Address(folder + "@s").path == folder)
    }

    @Test(arguments: ["a", "A-b_c.d:e9", String(repeating: "x", count: 128), "0", "_", ":"])
    func `good snapshot names are taken`(name: String) throws {
        #expect(try Address("v@" + name).snapshot == name)
    }

    @Test(arguments: ["", ".", ".a", "-a", "a b", "ä", "a\n", "a@", "%", String(repeating: "x", count: 129), "a\u{0}"])
    func `bad snapshot names are refused`(name: String) {
        let error = #expect(throws: ToolError.self) { try Address("v@" + name) }
        #expect(error?.exit == .usage)
    }

    @Test func `labels are name=value, each name once`() throws {
        #expect(try parseLabels(["a=1", "b=", "c=x=y"]) == ["a": "1", "b": "", "c": "x=y"])
        for wrong in [["a"], ["=1"], ["a=1", "a=2"]] { #expect(throws: ToolError.self) { try parseLabels(wrong) } }
    }
}

@Suite struct ErrorTableTests {
    @Test func `the exit codes are those of the contract`() {
        let codes = Set(Exit.allCases.map(\.rawValue))
        #expect(codes == [0, 1, 2, 3, 10, 11, 13, 14, 15, 63, 64, 130])
    }

    @Test(
        arguments: [
            (.noSpace(nil), 14), (.io(.init(call: "pwrite", path: "p", code: 28)), 14),
            (.io(.init(call: "open", path: "p", code: 2)), 10),
            (.io(.init(call: "fcntl", path: "p", code: 11)), 11), (.io(.init(call: "pread", path: "p", code: 5)), 1),
            (.damagedBlocks(.init(start: 1, count: 1), path: "p"), 2), (.damagedMetadata(path: "p", what: "w"), 2),
            (.replicaFailed("r"), 1),
            (.outOfRange(offset: 1, length: 1, size: 1), 64), (.readOnly("r"), 1), (.notFound("n"), 10),
            (.exists("e"), 11), (.inUse("i"), 11),
            (.refused("r"), 11), (.invalid("i"), 64), (.unsupportedFormat("u"), 63), (.closed, 1), (.cancelled, 130),
        ] as [(StoreError, Int32)])
    func `every error of the store has one exit code`(error: StoreError, code: Int32) {
        #expect(exitCode(for: error).rawValue == code)
        #expect(ToolError(error, "cannot do it").message.hasPrefix("cannot do it: "))
    }

    @Test(
        arguments: [
            (.noSpace(nil), 28), (.io(.init(call: "pread", path: "p", code: 13)), 5),
            (.io(.init(call: "pwrite", path: "p", code: 122)), 28),
            (.damagedBlocks(.init(start: 1, count: 1), path: "p"), 5), (.damagedMetadata(path: "p", what: "w"), 5),
            (.replicaFailed("r"), 5),
            (.outOfRange(offset: 1, length: 1, size: 1), 28), (.readOnly("r"), 30), (.notFound("n"), 2),
            (.exists("e"), 17), (.inUse("i"), 16),
            (.refused("r"), 16), (.invalid("i"), 22), (.unsupportedFormat("u"), 95), (.closed, 5), (.cancelled, 4),
        ] as [(StoreError, Int32)])
    func `every error of the store has one errno on the mount`(error: StoreError, code: Int32) {
        #expect(errnoCode(for: error) == code)
    }
}

@Suite struct GlobalsTests {
    @Test func `global options in front of the verb move behind it`() {
        #expect(Entry.globalsLast(["--json", "-q", "info", "v"]) == ["info", "v", "--json", "-q"])
        #expect(Entry.globalsLast(["--output", "json", "info", "v"]) == ["info", "v", "--output", "json"])
        #expect(
            Entry.globalsLast(["--output=json", "mount", "--", "-v", "m"]) == [
                "mount", "--output=json", "--", "-v", "m",
            ])
        #expect(Entry.globalsLast(["info", "--json", "v"]) == ["info", "--json", "v"])
        #expect(Entry.globalsLast(["--json"]) == ["--json"])
        #expect(Entry.globalsLast(["--help"]) == ["--help"])
    }

    @Test func `the command line goes before variables, and these before the file`() throws {
        let scratch = Scratch()
        let config = scratch.file("config", Array("# mine\noutput = json\nyes=true\n\nprogress=never\n".utf8))
        var globals = Globals.parsed([])
        globals.config = config
        #expect(try Settings(globals, environment: [:]).isJSON)
        #expect(try Settings(globals, environment: ["REPLICA_TOOL_OUTPUT": "human"]).isJSON == false)
        globals.output = "json"
        let settings = try Settings(
            globals, environment: ["REPLICA_TOOL_OUTPUT": "human", "REPLICA_TOOL_DRY_RUN": "1"])
        #expect(settings.isJSON)
        #expect(settings.isDryRun)
        #expect(settings.assumesYes)
        #expect(settings.progress == .never)
        globals = Globals.parsed([])
        #expect(try Settings(globals, environment: ["REPLICA_TOOL_CONFIG": config]).isJSON)
    }

    @Test(arguments: ["output=xml", "color=red", "yes", "yes=maybe", "progress=often"])
    func `a wrong line of the configuration is named by its number`(line: String) {
        let scratch = Scratch()
        var globals = Globals.parsed([])
        globals.config = scratch.file("config", Array("\n\(line)\n".utf8))
        let error = #expect(throws: ToolError.self) { try Settings(globals, environment: [:]) }
        #expect(error?.exit == .usage)
        #expect(error?.message.contains("line 2") == true)
    }
}
