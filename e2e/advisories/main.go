// Writes a vulnerability database with a single advisory, in Trivy's format:
//
//	advisories FOLDER BUCKET PACKAGE SEVERITY [FIX]
//
// FOLDER becomes a Trivy cache folder. BUCKET is "debian 12", where PACKAGE is a source package, or starts with "pip::".
// All versions before FIX are affected, or all versions without it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aquasecurity/trivy-db/pkg/db"
	"github.com/aquasecurity/trivy-db/pkg/metadata"
	"github.com/aquasecurity/trivy-db/pkg/types"
	"github.com/aquasecurity/trivy-db/pkg/vulnsrc/vulnerability"
	bolt "go.etcd.io/bbolt"
)

const id = "CVE-2000-0001"

func main() {
	if len(os.Args) < 5 || len(os.Args) > 6 {
		fmt.Fprintln(os.Stderr, "Usage: advisories FOLDER BUCKET PACKAGE SEVERITY [FIX]   for example: advisories cache 'debian 12' zlib HIGH 9.9")
		os.Exit(2)
	}
	folder, bucket, name, severity := filepath.Join(os.Args[1], "db"), os.Args[2], os.Args[3], os.Args[4]
	advisory := types.Advisory{VulnerableVersions: []string{">=0"}}
	if len(os.Args) == 6 {
		fix := os.Args[5]
		advisory = types.Advisory{
			FixedVersion:       fix,                 // used for Debian packages
			VulnerableVersions: []string{"<" + fix}, // used for Python packages
			PatchedVersions:    []string{fix},
		}
	}
	if err := write(folder, bucket, name, severity, &advisory); err != nil {
		fmt.Fprintf(os.Stderr, "Writing the database to %s failed: %v. Use a writable folder, and LOW, MEDIUM, HIGH or CRITICAL.\n", folder, err)
		os.Exit(1)
	}
}

func write(folder, bucket, name, severity string, advisory *types.Advisory) error {
	level, err := types.NewSeverity(severity)
	if err != nil {
		return err
	}
	if err := db.Init(folder); err != nil {
		return err
	}
	defer db.Close()
	database := db.Config{}
	err = database.BatchUpdate(func(tx *bolt.Tx) error {
		source := types.DataSource{ID: types.SourceID(bucket), Name: bucket}
		if err := database.PutDataSource(tx, bucket, source); err != nil {
			return err
		}
		known := types.Vulnerability{
			Title:          "Created for a test of the scanner",
			VendorSeverity: types.VendorSeverity{vulnerability.NVD: level},
		}
		if err := database.PutVulnerability(tx, id, known); err != nil {
			return err
		}
		if err := database.PutAdvisoryDetail(tx, id, name, []string{bucket}, advisory); err != nil {
			return err
		}
		// Lookups use the bucket, and only this call writes to it.
		return database.SaveAdvisoryDetails(tx, id)
	})
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	return metadata.NewClient(folder).Update(metadata.Metadata{
		Version: db.SchemaVersion, UpdatedAt: now, NextUpdate: now.Add(24 * time.Hour), DownloadedAt: now,
	})
}
