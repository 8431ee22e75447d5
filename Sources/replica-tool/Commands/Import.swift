import ArgumentParser
import Primitives
import Replication
import Storage

struct Import: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make an image file the content of a volume.",
        discussion: """
            A volume that does not exist is created with the size of the image. One that does is overwritten as a whole, \
            and reads as zeros behind the image's end; its snapshots stay. It must not be mounted.
            """)

    @Argument(help: "The image file.") var file: String
    @Argument(help: "The volume.") var volume: String
    @Option(
        help: ArgumentHelp(
            "The format of the image; by default raw, or qcow2 when its name ends so.", valueName: "raw|qcow2"))
    var format: String?
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        let address = try Address(withoutSnapshot: volume)
        let source = try ImageFile.source(file, format: format, context)
        defer { source.close() }
        let path = absolutePath(address.path)
        let isNew = !exists(path) || (isDirectory(path) && namesInDirectory(path).isEmpty)
        if isNew {
            guard source.size > 0 else {
                throw ToolError(.usage, "\(printable(file)) is empty: a volume has at least 4096 bytes")
            }
            if context.isDryRun("create \(path) and import \(file) (\(SizeText.human(source.size)))") { return .done }
        } else {
            let target = try context.target(address.path)
            try target.refuseIfServed("import into")
            if context.isDryRun("overwrite \(target.path) with \(file) (\(SizeText.human(source.size)))") {
                return .done
            }
            try context.confirm("Overwrite the content of \(target.path) with \(printable(file))")
        }
        try Interruption.shared.critical { () throws(ToolError) in
            if isNew {
                try create(path, source, context)
            } else {
                try ContentCopy.fill(try Target(path, host: context.host), from: source, isEmpty: false, context)
            }
        }
        let result: JSON = [
            "path": .string(path), "file": .string(absolutePath(file)), "size": JSON(source.size),
            "created": .bool(isNew),
        ]
        if context.isJSON {
            Output.message("summary", result)
        } else {
            context.done("imported \(file) into \(path): \(SizeText.human(source.size))", result)
        }
        return .done
    }

    private func create(_ path: String, _ source: any ContentSource, _ context: Context) throws(ToolError) {
        let size = roundedUp(source.size, to: blockSize64)
        guard size <= SizeText.volumeLimit else {
            throw ToolError(.usage, "\(printable(file)) is too large for a volume: 64T is the most")
        }
        let existed = exists(path)
        _ = try during("cannot create \(path)") { () throws(StoreError) in
            try VolumeDirectory.create(Engine.Specification(size: size), path: path, host: context.host)
        }
        do throws(ToolError) {
            try ContentCopy.fill(try Target(path, host: context.host), from: source, isEmpty: true, context)
        } catch {
            VolumeDirectory.remove(path, isOurs: !existed, host: context.host)
            throw error
        }
    }
}
