using ShardForge.Common;

namespace ShardForge.Consensus;

/// <summary>A snapshot that comes in chunk by chunk, into the directory of a generation that does not count yet.</summary>
/// <remarks>Chunks come in order: a file's from its start to its end, then the next file's. One whose answer was lost may come again, right after itself. Everything here runs on the thread of <see cref="SnapshotFiles"/>.
/// A crash at any point leaves a directory that no log record names; the next open removes it (R33).</remarks>
internal sealed class IncomingSnapshot(ReplicaId sender, long transfer, LogIndex index, Term term, long generation, string directory)
{
    private readonly HashSet<string> _directories = [directory];
    private IFile? _file;
    private string _name = "";
    private long _offset;

    public LogIndex Index { get; } = index;

    public Term Term { get; } = term;

    public long Generation { get; } = generation;

    public string Directory { get; } = directory;

    public long Bytes { get; private set; }

    public int FileCount { get; private set; }

    public uint Crc { get; private set; }

    public bool Is(ReplicaId from, long number) => from == sender && number == transfer;

    /// <summary>Makes the directory, empty.</summary>
    public void Prepare(IFileSystem files)
    {
        files.DeleteDirectory(Directory);
        DurableDirectory.Create(files, Directory);
    }

    /// <exception cref="InvalidDataException">Out of order, or of a name that leads out of the directory.</exception>
    public void Write(IFileSystem files, string name, long offset, ReadOnlySpan<byte> bytes, bool isLastOfFile)
    {
        if (name == _name && offset + bytes.Length == _offset)
            return;         // it is here already
        if (_file is null)
            Begin(files, name);
        if (name != _name || offset != _offset)
            throw new InvalidDataException($"A snapshot chunk for {name} at {offset:N0}; expected is {_name} at {_offset:N0}.");
        _file!.Write(bytes, offset);
        _offset += bytes.Length;
        Bytes += bytes.Length;
        Crc = Crc32C.Append(Crc, bytes);
        if (!isLastOfFile)
            return;
        _file.Flush();
        Close();
        FileCount++;
    }

    /// <summary>Makes the names durable, after the files were one by one.</summary>
    public void Complete(IFileSystem files)
    {
        if (_file is not null)
            throw new InvalidDataException($"A snapshot ends inside {_name}.");
        foreach (string filled in _directories)
            files.FlushDirectory(filled);
        if (Path.GetDirectoryName(Directory) is { Length: > 0 } parent)
            files.FlushDirectory(parent);
    }

    public void Close()
    {
        _file?.Dispose();
        _file = null;
    }

    public void Discard(IFileSystem files)
    {
        Close();
        files.DeleteDirectory(Directory);
    }

    private void Begin(IFileSystem files, string name)
    {
        string path = Directory;
        string[] parts = name.Split('/');
        for (int i = 0; i < parts.Length; i++)
        {
            if (parts[i].Length == 0 || parts[i] is "." or ".." || parts[i].AsSpan().IndexOfAny('\\', ':', '\0') >= 0)
                throw new InvalidDataException($"A snapshot's file is called '{name}', which is no name inside a directory.");
            path = Path.Combine(path, parts[i]);
            if (i < parts.Length - 1 && _directories.Add(path))
                files.CreateDirectory(path);
        }

        _file = files.Open(path, FileOpenMode.CreateNew);
        _name = name;
        _offset = 0;
    }
}
