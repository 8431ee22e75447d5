import ArgumentParser
import HostIO
import Primitives
import Replication
import Storage

struct Create: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a volume.",
        discussion: """
            Makes the directory VOLUME, or takes an empty one, with one replica inside. The volume takes the space of \
            its journal at first, whatever its size. With --from or --import it gets content at once; its size is \
            then that of the source unless --size says more.
            """)

    @Argument(help: "The directory to make.") var volume: String
    @Option(help: ArgumentHelp("Its size: 10G, 1.5TiB; a multiple of 4096 bytes, 64T at most.", valueName: "size"))
    var size: String?
    @Option(help: ArgumentHelp("How many replicas it has; this version keeps one.", valueName: "n"))
    var replicas: Int = 1
    @Option(help: ArgumentHelp("Copy the content of another volume, replica or snapshot.", valueName: "target[@snap]"))
    var from: String?
    @Option(name: .customLong("import"), help: ArgumentHelp("Copy the content of an image file.", valueName: "file"))
    var imported: String?
    @Option(help: ArgumentHelp("The format of the image file: raw or qcow2.", valueName: "raw|qcow2"))
    var format: String?
    @Option(
        name: .customLong("label"), help: ArgumentHelp("A label; may be given several times.", valueName: "name=value"))
    var labels: [String] = []
    @Option(
        help: ArgumentHelp(
            "Size of the journal; by default it follows the size of the volume, 128M at most.", valueName: "size"))
    var journalSize: String?
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        guard replicas == 1 else {
            throw ToolError(
                .usage, "--replicas \(replicas): this version keeps one replica per volume; leave the option out")
        }
        guard from == nil || imported == nil else {
            throw ToolError(.usage, "--from and --import exclude each other: give one")
        }
        guard format == nil || imported != nil else { throw ToolError(.usage, "--format belongs to --import") }
        let address = try Address(withoutSnapshot: volume)
        let labels = try parseLabels(labels)
        let journal = try journalSize.map { text throws(ToolError) in try SizeText.volumeSize(text) }
        let given = try size.map { text throws(ToolError) in try SizeText.volumeSize(text) }
        guard given != nil || from != nil || imported != nil else {
            throw ToolError(.usage, "no size is given: add --size, like --size 10G")
        }
        let path = absolutePath(address.path)
        let source = try openSource(context)
        defer { source?.close() }
        let needed = source.map { roundedUp($0.size, to: blockSize64) }
        let size = given ?? needed ?? 0
        if let needed, size < needed {
            throw ToolError(
                .usage,
                "--size \(SizeText.human(size)) is less than the source's \(SizeText.human(needed)): leave it out, or give more"
            )
        }
        guard size > 0 else { throw ToolError(.usage, "the source is empty: a volume has at least 4096 bytes") }
        guard size <= SizeText.volumeLimit else {
            throw ToolError(.usage, "the source is too large for a volume: 64T is the most")
        }
        if context.isDryRun("create \(path) of \(SizeText.human(size))", ["path": .string(path), "size": JSON(size)]) {
            return .done
        }
        let specification = Engine.Specification(size: size, journalSize: journal, labels: labels)
        return try Interruption.shared.critical { () throws(ToolError) -> Exit in
            try make(specification, path, source, context)
        }
    }

    private func openSource(_ context: Context) throws(ToolError) -> (any ContentSource)? {
        if let from {
            let address = try Address(from)
            let target = try context.target(address.path)
            return try SessionSource(target.session(.readOnly, host: context.host), snapshot: address.snapshot)
        }
        if let imported { return try ImageFile.source(imported, format: format, context) }
        return nil
    }

    private func make(
        _ specification: Engine.Specification, _ path: String, _ source: (any ContentSource)?, _ context: Context
    ) throws(ToolError) -> Exit {
        let existed = exists(path)
        let volume = try during("cannot create \(path)") { () throws(StoreError) in
            try VolumeDirectory.create(specification, path: path, host: context.host)
        }
        do throws(ToolError) {
            if Interruption.shared.isRequested {
                throw ToolError(.interrupted, "interrupted; nothing is left of \(path)")
            }
            if let source {
                let target = try Target(path, host: context.host)
                try ContentCopy.fill(target, from: source, isEmpty: true, context)
            }
        } catch {
            VolumeDirectory.remove(path, isOurs: !existed, host: context.host)
            throw error
        }
        context.done(
            "created \(path): \(SizeText.human(specification.size)), volume \(volume.record.identifier)",
            [
                "path": .string(path), "uuid": .string(volume.record.identifier.description),
                "size": JSON(specification.size), "labels": JSON(volume.record.labels),
                "replicas": .array(volume.record.replicas.map { .string($0) }),
                "created": .string(volume.record.created.rfc3339),
            ])
        return .done
    }
}
