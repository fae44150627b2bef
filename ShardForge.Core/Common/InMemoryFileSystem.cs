namespace ShardForge.Common;

/// <summary>Files in memory: what a node without a data directory runs over. Same calls, same errors as the real ones; nothing outlives the object.</summary>
/// <remarks>
/// A tree of <see cref="InMemoryDirectory"/>, whose files are <see cref="InMemoryContent"/>; a hard link is a second name of the same content.
/// An open file keeps its content when its name goes, as on Unix. Memory is taken when bytes other than zero are first written, not at preallocation.
/// <para>Threads: one lock for the tree, one per content; the tree's is taken first, and none is held while the caller's code runs.</para>
/// </remarks>
internal sealed class InMemoryFileSystem : IFileSystem
{
    private readonly Lock _gate = new();
    private readonly InMemoryDirectory _root = new();
    private readonly HashSet<string> _locks = new(StringComparer.Ordinal);
    private readonly InMemorySpace _space = new();

    /// <summary>Bytes that all files may have together (their lengths count); over it a write fails as on a full disk.</summary>
    public long CapacityBytes
    {
        get => _space.CapacityBytes;
        set => _space.CapacityBytes = value;
    }

    public IFile Open(string path, FileOpenMode mode)
    {
        lock (_gate)
        {
            (InMemoryDirectory directory, string name) = ParentLocked(path);
            if (directory.Directories.ContainsKey(name))
                throw new UnauthorizedAccessException($"Cannot open {path}: it is a directory.");
            bool exists = directory.Files.TryGetValue(name, out InMemoryContent? content);
            switch (mode)
            {
                case FileOpenMode.Read or FileOpenMode.ReadWrite when !exists:
                    throw new FileNotFoundException($"There is no file {path}.", path);
                case FileOpenMode.CreateNew when exists:
                    throw new IOException($"Cannot create {path}: it is there already.");
            }

            if (content is null)
            {
                content = new InMemoryContent(_space) { LinkCount = 1 };
                directory.Files.Add(name, content);
            }
            else if (mode == FileOpenMode.CreateOrTruncate)
            {
                content.SetLength(path, 0);
            }

            return new InMemoryFile(path, content, writable: mode != FileOpenMode.Read);
        }
    }

    public bool FileExists(string path)
    {
        lock (_gate)
            return TryFindLocked(System.IO.Path.GetDirectoryName(FullPath(path)) ?? "", out InMemoryDirectory? parent) && parent.Files.ContainsKey(NameOf(path));
    }

    public bool DirectoryExists(string path)
    {
        lock (_gate)
            return TryFindLocked(FullPath(path), out _);
    }

    public void CreateDirectory(string path)
    {
        lock (_gate)
        {
            InMemoryDirectory at = _root;
            foreach (string name in NamesOf(FullPath(path)))
            {
                if (at.Files.ContainsKey(name))
                    throw new IOException($"Cannot create the directory {path}: {name} is a file.");
                if (!at.Directories.TryGetValue(name, out InMemoryDirectory? next))
                    at.Directories.Add(name, next = new());
                at = next;
            }
        }
    }

    public IReadOnlyList<string> ListFiles(string path)
    {
        lock (_gate)
            return TryFindLocked(FullPath(path), out InMemoryDirectory? directory) ? [.. directory.Files.Keys.Select(name => System.IO.Path.Combine(path, name))] : [];
    }

    public IReadOnlyList<string> ListDirectories(string path)
    {
        lock (_gate)
            return TryFindLocked(FullPath(path), out InMemoryDirectory? directory) ? [.. directory.Directories.Keys.Select(name => System.IO.Path.Combine(path, name))] : [];
    }

    public void Rename(string path, string newPath)
    {
        lock (_gate)
        {
            (InMemoryDirectory directory, string name) = ParentLocked(path);
            (InMemoryDirectory newDirectory, string newName) = ParentLocked(newPath);
            if (!directory.Files.TryGetValue(name, out InMemoryContent? content))
                throw new FileNotFoundException($"Cannot rename {path}: there is no such file.", path);
            if (newDirectory.Directories.ContainsKey(newName))
                throw new IOException($"Cannot rename {path} to {newPath}: that is a directory.");
            if (newDirectory.Files.TryGetValue(newName, out InMemoryContent? replaced))
            {
                if (ReferenceEquals(replaced, content) && ReferenceEquals(directory, newDirectory) && string.Equals(name, newName, StringComparison.Ordinal))
                    return;
                replaced.Unlink();
            }

            directory.Files.Remove(name);
            newDirectory.Files[newName] = content;
        }
    }

    public void RenameDirectory(string path, string newPath)
    {
        lock (_gate)
        {
            (InMemoryDirectory parent, string name) = ParentLocked(path);
            (InMemoryDirectory newParent, string newName) = ParentLocked(newPath);
            if (!parent.Directories.TryGetValue(name, out InMemoryDirectory? directory))
                throw new DirectoryNotFoundException($"Cannot rename {path}: there is no such directory.");
            if (newParent.Files.ContainsKey(newName) || newParent.Directories.ContainsKey(newName))
                throw new IOException($"Cannot rename {path} to {newPath}: that is there already.");
            if (IsInside(FullPath(newPath), FullPath(path)))
                throw new IOException($"Cannot rename {path} to {newPath}, which is inside it.");
            parent.Directories.Remove(name);
            newParent.Directories.Add(newName, directory);
        }
    }

    public void HardLink(string path, string newPath)
    {
        lock (_gate)
        {
            (InMemoryDirectory directory, string name) = ParentLocked(path);
            (InMemoryDirectory newDirectory, string newName) = ParentLocked(newPath);
            if (!directory.Files.TryGetValue(name, out InMemoryContent? content))
                throw new FileNotFoundException($"Cannot link {path} to {newPath}: there is no such file.", path);
            if (newDirectory.Files.ContainsKey(newName) || newDirectory.Directories.ContainsKey(newName))
                throw new IOException($"Cannot link {path} to {newPath}: that is there already.");
            newDirectory.Files.Add(newName, content);
            content.LinkCount++;
        }
    }

    public void Delete(string path)
    {
        lock (_gate)
        {
            if (TryFindLocked(System.IO.Path.GetDirectoryName(FullPath(path)) ?? "", out InMemoryDirectory? parent) && parent.Files.Remove(NameOf(path), out InMemoryContent? content))
                content.Unlink();
        }
    }

    public void DeleteDirectory(string path)
    {
        lock (_gate)
        {
            string full = FullPath(path);
            if (TryFindLocked(System.IO.Path.GetDirectoryName(full) ?? "", out InMemoryDirectory? parent) && parent.Directories.Remove(NameOf(full), out InMemoryDirectory? directory))
                directory.UnlinkAll();
        }
    }

    public void FlushDirectory(string path)
    {
        if (!DirectoryExists(path))
            throw new DirectoryNotFoundException($"Cannot flush {path}: there is no such directory.");
    }

    public IDisposable? TryLock(string path)
    {
        lock (_gate)
        {
            (InMemoryDirectory directory, string name) = ParentLocked(path);
            if (!_locks.Add(FullPath(path)))
                return null;
            if (!directory.Files.ContainsKey(name))
                directory.Files.Add(name, new InMemoryContent(_space) { LinkCount = 1 });
            return new HeldLock(this, FullPath(path));
        }
    }

    public long GetFreeBytes(string path) => _space.FreeBytes;

    /// <summary>The path in one spelling: absolute, without a separator at its end.</summary>
    internal static string FullPath(string path) => System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(path));

    /// <summary>Whether a full path is <paramref name="directory"/> or below it.</summary>
    internal static bool IsInside(string path, string directory) =>
        path.StartsWith(directory, StringComparison.Ordinal) &&
        (path.Length == directory.Length || directory.EndsWith(System.IO.Path.DirectorySeparatorChar) || path[directory.Length] == System.IO.Path.DirectorySeparatorChar);

    private static string NameOf(string path) => System.IO.Path.GetFileName(FullPath(path));

    private static string[] NamesOf(string fullPath) => fullPath.Split(System.IO.Path.DirectorySeparatorChar, StringSplitOptions.RemoveEmptyEntries);

    private bool TryFindLocked(string fullPath, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out InMemoryDirectory? directory)
    {
        directory = _root;
        foreach (string name in NamesOf(fullPath))
        {
            if (!directory.Directories.TryGetValue(name, out directory))
                return false;
        }

        return true;
    }

    private (InMemoryDirectory Directory, string Name) ParentLocked(string path)
    {
        string full = FullPath(path);
        string parent = System.IO.Path.GetDirectoryName(full) ?? throw new IOException($"{path} cannot be a file: it is the root.");
        return TryFindLocked(parent, out InMemoryDirectory? directory)
            ? (directory, NameOf(full))
            : throw new DirectoryNotFoundException($"There is no directory {parent} for {path}.");
    }

    private sealed class HeldLock(InMemoryFileSystem owner, string path) : IDisposable
    {
        private bool _released;

        public void Dispose()
        {
            lock (owner._gate)
            {
                if (!_released)
                    owner._locks.Remove(path);
                _released = true;
            }
        }
    }
}

/// <summary>Names in a directory of <see cref="InMemoryFileSystem"/>; guarded by its lock.</summary>
internal sealed class InMemoryDirectory
{
    public Dictionary<string, InMemoryDirectory> Directories { get; } = new(StringComparer.Ordinal);

    public Dictionary<string, InMemoryContent> Files { get; } = new(StringComparer.Ordinal);

    public void UnlinkAll()
    {
        foreach (InMemoryContent content in Files.Values)
            content.Unlink();
        foreach (InMemoryDirectory directory in Directories.Values)
            directory.UnlinkAll();
    }
}
