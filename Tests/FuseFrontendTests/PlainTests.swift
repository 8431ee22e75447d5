internal import Testing

@testable internal import FuseFrontend

@Suite("What needs no mount")
struct PlainTests {
    @Test func `the mount table is read with escapes and optional fields, and what is not understood is passed over`() {
        let text = """
            22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
            31 22 0:39 / /mnt/a\\040b\\134c rw,nosuid - fuse.replica-store /volumes/x rw,user_id=0
            32 22 0:40 / /two rw shared:2 master:3 - tmpfs none rw
            short line
            33 22 0:41 / /no/type rw -
            """
        let entries = MountTableEntry.parse(Array(text.utf8))
        #expect(entries.map(\.mountPoint) == ["/", "/mnt/a b\\c", "/two"])
        #expect(entries.map(\.device) == ["254:0", "0:39", "0:40"])
        #expect(entries.map(\.type) == ["ext4", "fuse.replica-store", "tmpfs"])
    }

    @Test func `options of the user that change the serving are taken over, the others passed on`() {
        let options = testOptions { $0.userOptions = ["ro,nonempty", "allow_other", "noexec,context=a\\,b", ""] }
        let (result, allowsFilesBelow) = options.normalised()
        #expect(allowsFilesBelow)
        #expect(result.isReadOnly)
        #expect(result.allowsOthers)
        #expect(result.userOptions == ["noexec", "context=a\\,b"])
        #expect(
            result.libfuseText()
                == "fsname=/volumes/test,subtype=replica-store,nosuid,nodev,noatime,allow_other,default_permissions,ro,noexec,context=a\\,b"
        )
    }

    @Test func `others are let in only when that is asked for`() {
        #expect(!testOptions().libfuseText().contains("allow_other"))
        #expect(!testOptions().libfuseText().contains("default_permissions"))
    }

    @Test func `there are two threads at least`() {
        #expect(testOptions { $0.threadCount = 0 }.normalised().options.threadCount == 2)
    }

    @Test func `a truncation is taken for one of O_TRUNC only right after its thread's open`() {
        var opens = TruncatingOpens()
        func remove(_ thread: Int32) -> Bool { opens.remove(thread) }
        opens.insert(7)
        #expect(!remove(8))
        #expect(remove(7))
        #expect(!remove(7))
        opens.insert(0)
        #expect(!remove(0))
        for thread in 1...65 { opens.insert(Int32(thread)) }
        #expect(!remove(1))
        #expect(remove(2))
        #expect(remove(65))
    }
}
