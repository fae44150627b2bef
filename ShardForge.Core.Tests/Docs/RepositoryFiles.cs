namespace ShardForge.Tests.Docs;

/// <summary>Where the repository is that these tests were built in.</summary>
internal static class RepositoryFiles
{
    public static string Root { get; } = FindRoot();

    private static string FindRoot()
    {
        DirectoryInfo? folder = new(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "ShardForge.Core.sln")))
            folder = folder.Parent;
        return folder?.FullName ?? throw new InvalidOperationException($"No ShardForge.Core.sln above {AppContext.BaseDirectory}.");
    }
}
