using ShardForge.Common;

namespace ShardForge.Testing;

/// <summary>Changes of names that are not durable yet, in order, each of which can be undone and done again.</summary>
/// <remarks>
/// A file that loses a name keeps one in the lost directory until that is durable, so nothing is gone that a power cut would bring back.
/// A rename is two changes of one group, kept or lost together, until the flush of one of the two directories makes its half durable.
/// <para>A power cut undoes all changes backwards and does again, forwards, those that it keeps. Guarded by the file system's lock.</para>
/// </remarks>
/// <param name="inner">Where the files are.</param>
/// <param name="lostDirectory">Full path of the lost directory.</param>
/// <param name="moved">Told of each name that came, moved or went: (from, to, link of).</param>
/// <param name="movedDirectory">Told of each directory that moved, or went with all that is in it.</param>
internal sealed class NameJournal(IFileSystem inner, string lostDirectory, Action<string?, string?, string?> moved, Action<string, string?> movedDirectory)
{
    private readonly List<NameChange> _changes = [];
    private int _lostCount, _groupCount;

    public int Count => _changes.Count;

    public string LostDirectory => lostDirectory;

    public void Created(string path) => Add(new(NameChangeKind.Bind, path) { HasNew = true });

    public void Link(string path, string newPath)
    {
        inner.HardLink(path, newPath);
        moved(null, newPath, path);
        Add(new(NameChangeKind.Bind, newPath) { HasNew = true });
    }

    public void Delete(string path)
    {
        if (!inner.FileExists(path))
            return;
        string lost = NewLost();
        MoveFile(path, lost);
        Add(new(NameChangeKind.Bind, path) { Old = lost });
    }

    public void Rename(string path, string newPath)
    {
        if (string.Equals(path, newPath, StringComparison.Ordinal))
            return;
        if (!inner.FileExists(path))
            throw new FileNotFoundException($"Cannot rename {path}: there is no such file.", path);
        string oldName = LinkLost(path);
        string? replaced = inner.FileExists(newPath) ? LinkLost(newPath) : null;
        inner.Rename(path, newPath);
        moved(path, newPath, null);
        int group = ++_groupCount;
        Add(new(NameChangeKind.Bind, newPath) { HasNew = true, Old = replaced, Group = group });
        Add(new(NameChangeKind.Bind, path) { Old = oldName, Group = group });
    }

    public void CreateDirectory(string path)
    {
        Stack<string> missing = [];
        for (string? at = path; at is not null && !inner.DirectoryExists(at); at = Path.GetDirectoryName(at))
            missing.Push(at);
        inner.CreateDirectory(path);
        foreach (string directory in missing)
            Add(new(NameChangeKind.CreateDirectory, directory));
    }

    public void RenameDirectory(string path, string newPath)
    {
        MoveDirectory(path, newPath);
        FollowMove(path, newPath);
        Add(new(NameChangeKind.MoveDirectory, path) { NewPath = newPath });
    }

    public void DeleteDirectory(string path)
    {
        if (!inner.DirectoryExists(path))
            return;
        string lost = NewLost();
        MoveDirectory(path, lost);
        FollowMove(path, lost);
        Add(new(NameChangeKind.DeleteDirectory, path) { Old = lost });
    }

    /// <summary>The names in a directory are durable.</summary>
    public void Flush(string directory)
    {
        for (int i = 0; i < _changes.Count; i++)
        {
            NameChange change = _changes[i];
            if (change.Pending.Remove(directory) && change.Pending.Count == 0)
            {
                _changes.RemoveAt(i--);
                Settle(change, i + 1);
            }
        }
    }

    public void CutPower(Random random)
    {
        NameChange[] changes = [.. _changes];
        bool[] keeps = Choose(changes, random);
        for (int i = changes.Length - 1; i >= 0; i--)
            Undo(changes[i]);
        for (int i = 0; i < changes.Length; i++)
        {
            if (keeps[i])
                DoAgain(changes[i]);
        }

        _changes.Clear();
        inner.DeleteDirectory(lostDirectory);
        movedDirectory(lostDirectory, null);
    }

    private static bool[] Choose(NameChange[] changes, Random random)
    {
        bool[] keeps = new bool[changes.Length];
        int mode = random.Next(4), prefix = random.Next(changes.Length + 1);
        for (int i = 0; i < changes.Length; i++)
        {
            // Both halves of a rename stand and fall together.
            if (i > 0 && changes[i].Group != 0 && changes[i].Group == changes[i - 1].Group)
            {
                keeps[i] = keeps[i - 1];
                continue;
            }

            bool wanted = mode switch { 0 => true, 1 => false, 2 => i < prefix, _ => random.Next(2) == 0 };
            bool grouped = i + 1 < changes.Length && changes[i].Group != 0 && changes[i].Group == changes[i + 1].Group;
            for (int j = 0; j < i && wanted; j++)
                wanted = keeps[j] || !(changes[i].Touches(changes[j]) || (grouped && changes[i + 1].Touches(changes[j])));
            keeps[i] = wanted;
        }

        return keeps;
    }

    private void Add(NameChange change)
    {
        change.Pending.Add(Path.GetDirectoryName(change.Path)!);
        if (change.NewPath is not null)
            change.Pending.Add(Path.GetDirectoryName(change.NewPath)!);
        _changes.Add(change);
    }

    // A change is durable: what undoing it would need can go.
    private void Settle(NameChange change, int earlierCount)
    {
        switch (change.Kind)
        {
            case NameChangeKind.Bind when change.Old is not null:
                inner.Delete(change.Old);
                moved(change.Old, null, null);
                break;
            case NameChangeKind.MoveDirectory:
                // It will not be undone any more, so earlier changes inside it are undone under the new path.
                for (int i = 0; i < earlierCount; i++)
                    _changes[i].Move(change.Path, change.NewPath!);
                break;
            case NameChangeKind.DeleteDirectory:
                _changes.RemoveAll(earlier => earlier.IsInside(change.Old!));
                inner.DeleteDirectory(change.Old!);
                movedDirectory(change.Old!, null);
                break;
        }
    }

    private void FollowMove(string path, string newPath)
    {
        foreach (NameChange change in _changes)
            change.Follow(path, newPath);
    }

    private void Undo(NameChange change)
    {
        switch (change.Kind)
        {
            case NameChangeKind.Bind:
                if (change.HasNew)
                    MoveFile(change.Path, change.New = NewLost());
                if (change.Old is not null)
                    MoveFile(change.Old, change.Path);
                break;
            case NameChangeKind.CreateDirectory:
                MoveDirectory(change.Path, change.New = NewLost());
                break;
            case NameChangeKind.MoveDirectory:
                MoveDirectory(change.NewPath!, change.Path);
                break;
            case NameChangeKind.DeleteDirectory:
                MoveDirectory(change.Old!, change.Path);
                break;
        }
    }

    private void DoAgain(NameChange change)
    {
        switch (change.Kind)
        {
            case NameChangeKind.Bind:
                inner.Delete(change.Path);
                moved(change.Path, null, null);
                if (change.HasNew)
                    MoveFile(change.New!, change.Path);
                break;
            case NameChangeKind.CreateDirectory:
                MoveDirectory(change.New!, change.Path);
                break;
            case NameChangeKind.MoveDirectory:
                MoveDirectory(change.Path, change.NewPath!);
                break;
            case NameChangeKind.DeleteDirectory:
                inner.DeleteDirectory(change.Path);
                movedDirectory(change.Path, null);
                break;
        }
    }

    private void MoveFile(string path, string newPath)
    {
        inner.Rename(path, newPath);
        moved(path, newPath, null);
    }

    private void MoveDirectory(string path, string newPath)
    {
        inner.RenameDirectory(path, newPath);
        movedDirectory(path, newPath);
    }

    private string LinkLost(string path)
    {
        string lost = NewLost();
        inner.HardLink(path, lost);
        moved(null, lost, path);
        return lost;
    }

    private string NewLost()
    {
        inner.CreateDirectory(lostDirectory);
        return Path.Combine(lostDirectory, $"{++_lostCount}");
    }
}

/// <summary>What a change of names does.</summary>
internal enum NameChangeKind
{
    /// <summary>A name in a directory gets, changes or loses its file.</summary>
    Bind,
    CreateDirectory,
    MoveDirectory,
    DeleteDirectory,
}

/// <summary>One change of names that is not durable yet.</summary>
internal sealed class NameChange(NameChangeKind kind, string path)
{
    public NameChangeKind Kind => kind;

    /// <summary>The name, as it was when the change was made: undoing goes backwards, so it is right again when its turn comes.</summary>
    public string Path { get; private set; } = path;

    public string? NewPath { get; init; }

    /// <summary>Where in the lost directory the file or directory lies that had the name before; null: none had.</summary>
    public string? Old { get; init; }

    /// <summary>Whether a file has the name afterwards.</summary>
    public bool HasNew { get; init; }

    /// <summary>Where that file lies while the change is undone.</summary>
    public string? New { get; set; }

    /// <summary>Changes that are one; 0: it stands alone.</summary>
    public int Group { get; init; }

    /// <summary>Directories, under their names of now, whose flush makes it durable.</summary>
    public HashSet<string> Pending { get; } = new(StringComparer.Ordinal);

    public bool Touches(NameChange other) =>
        Related(Path, other.Path) || (NewPath is not null && Related(NewPath, other.Path)) ||
        (other.NewPath is not null && (Related(Path, other.NewPath) || (NewPath is not null && Related(NewPath, other.NewPath))));

    public bool IsInside(string directory) => Pending.Any(pending => InMemoryFileSystem.IsInside(pending, directory));

    /// <summary>A directory moved: whose flush counts moves with it.</summary>
    public void Follow(string from, string to)
    {
        foreach (string pending in Pending.Where(pending => InMemoryFileSystem.IsInside(pending, from)).ToArray())
        {
            Pending.Remove(pending);
            Pending.Add(to + pending[from.Length..]);
        }
    }

    public void Move(string from, string to)
    {
        if (InMemoryFileSystem.IsInside(Path, from))
            Path = to + Path[from.Length..];
    }

    private static bool Related(string path, string other) => InMemoryFileSystem.IsInside(path, other) || InMemoryFileSystem.IsInside(other, path);
}
