package main

// The controller's part: what CSI's provisioner, attacher and resizer do in a cluster that has them. It makes the folder and
// the PersistentVolume of a claim, says that a volume is attached, and begins to let a volume grow; the kubelet ends that.

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"time"

	"collective.storage/hack/kind/lab/api"
)

const (
	everyRound = 500 * time.Millisecond
	oneRound   = 30 * time.Second
)

type metadata struct {
	Name              string            `json:"name,omitempty"`
	Namespace         string            `json:"namespace,omitempty"`
	UID               string            `json:"uid,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
	DeletionTimestamp string            `json:"deletionTimestamp,omitempty"`
}

type reference struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name,omitempty"`
	UID        string `json:"uid,omitempty"`
}

type claim struct {
	Metadata metadata
	Spec     struct {
		StorageClassName string
		AccessModes      []string
		VolumeName       string
		Resources        struct{ Requests map[string]string }
	}
	Status struct {
		Phase                     string
		Capacity                  map[string]string
		AllocatedResources        map[string]string
		AllocatedResourceStatuses map[string]string
	}
}

type attachment struct {
	Metadata metadata
	Spec     struct {
		Attacher string
		Source   struct{ PersistentVolumeName string }
	}
	Status struct{ Attached bool }
}

type volume struct {
	APIVersion string       `json:"apiVersion,omitempty"`
	Kind       string       `json:"kind,omitempty"`
	Metadata   metadata     `json:"metadata"`
	Spec       volumeSpec   `json:"spec"`
	Status     volumeStatus `json:"status,omitzero"`
}

type volumeSpec struct {
	StorageClassName              string            `json:"storageClassName"`
	AccessModes                   []string          `json:"accessModes"`
	Capacity                      map[string]string `json:"capacity"`
	PersistentVolumeReclaimPolicy string            `json:"persistentVolumeReclaimPolicy"`
	ClaimRef                      reference         `json:"claimRef"`
	CSI                           *csiSource        `json:"csi,omitempty"`
}

type csiSource struct {
	Driver       string `json:"driver"`
	VolumeHandle string `json:"volumeHandle"`
}

type volumeStatus struct {
	Phase string `json:"phase,omitempty"`
}

type storageClass struct {
	Metadata      metadata
	Provisioner   string
	ReclaimPolicy string
}

// control never ends: a round that failed is made again.
func control() {
	client, err := api.New()
	if err != nil {
		log.Fatal(err)
	}
	for ; ; time.Sleep(everyRound) {
		ctx, cancel := context.WithTimeout(context.Background(), oneRound)
		if err := round(ctx, client); err != nil {
			log.Print(err)
		}
		cancel()
	}
}

func round(ctx context.Context, client *api.Client) error {
	var classes struct{ Items []storageClass }
	var claims struct{ Items []claim }
	var volumes struct{ Items []volume }
	var attachments struct{ Items []attachment }
	if err := client.Get(ctx, "/apis/storage.k8s.io/v1/storageclasses", &classes); err != nil {
		return err
	}
	if err := client.Get(ctx, "/api/v1/persistentvolumeclaims", &claims); err != nil {
		return err
	}
	if err := client.Get(ctx, "/api/v1/persistentvolumes", &volumes); err != nil {
		return err
	}
	if err := client.Get(ctx, "/apis/storage.k8s.io/v1/volumeattachments", &attachments); err != nil {
		return err
	}
	attached := map[string]bool{}
	for _, one := range attachments.Items {
		if one.Spec.Attacher != driver {
			continue
		}
		attached[one.Spec.Source.PersistentVolumeName] = true
		if err := attach(ctx, client, one); err != nil {
			return err
		}
	}
	reclaim := map[string]string{}
	for _, class := range classes.Items {
		if class.Provisioner == driver {
			reclaim[class.Metadata.Name] = class.ReclaimPolicy
		}
	}
	held := map[string]volume{}
	for _, one := range volumes.Items {
		if one.Spec.CSI == nil || one.Spec.CSI.Driver != driver {
			continue
		}
		held[one.Metadata.Name] = one
		released := one.Status.Phase == "Released" && one.Spec.PersistentVolumeReclaimPolicy == "Delete"
		if released && !attached[one.Metadata.Name] {
			if err := remove(ctx, client, one); err != nil {
				return err
			}
		}
	}
	for _, one := range claims.Items {
		if policy, ours := reclaim[one.Spec.StorageClassName]; ours {
			if err := serve(ctx, client, one, policy, held); err != nil {
				return err
			}
		}
	}
	return nil
}

// attach has nothing to do but to say so: the folder is there on every node. That it is said for one node at a time, and
// only taken back when the volume is off it, is Kubernetes' own doing.
func attach(ctx context.Context, client *api.Client, wanted attachment) error {
	if wanted.Status.Attached || wanted.Metadata.DeletionTimestamp != "" {
		return nil
	}
	log.Printf("%s is attached", wanted.Spec.Source.PersistentVolumeName)
	path := "/apis/storage.k8s.io/v1/volumeattachments/" + wanted.Metadata.Name + "/status"
	return client.Merge(ctx, path, map[string]any{"status": map[string]any{"attached": true}})
}

// serve makes the volume of a new claim, and lets a bound one grow with what its claim asks for.
func serve(ctx context.Context, client *api.Client, wanted claim, policy string, held map[string]volume) error {
	size := wanted.Spec.Resources.Requests["storage"]
	if wanted.Spec.VolumeName == "" {
		return provide(ctx, client, wanted, policy, size)
	}
	bound, ours := held[wanted.Spec.VolumeName]
	if !ours || wanted.Status.Phase != "Bound" || wanted.Status.Capacity["storage"] == size {
		return nil
	}
	return grow(ctx, client, wanted, bound, size)
}

// grow does the controller's half. The kubelet of the node where the volume is mounted does the other: it asks the node's part
// of the driver and says on the claim that it is done; where it is mounted nowhere, that waits. The kubelet begins when it sees
// the volume's new size, so that the claim must say before that something is pending.
func grow(ctx context.Context, client *api.Client, wanted claim, bound volume, size string) error {
	if wanted.Status.AllocatedResources["storage"] != size || wanted.Status.AllocatedResourceStatuses["storage"] == "" {
		path := "/api/v1/namespaces/" + wanted.Metadata.Namespace + "/persistentvolumeclaims/" + wanted.Metadata.Name
		pending := map[string]any{
			"allocatedResources":        map[string]string{"storage": size},
			"allocatedResourceStatuses": map[string]string{"storage": "NodeResizePending"},
			"conditions": []map[string]any{{
				"type":               "FileSystemResizePending",
				"status":             "True",
				"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
				"message":            "Waiting for the node that mounts it to let the file system grow",
			}},
		}
		if err := client.Merge(ctx, path+"/status", map[string]any{"status": pending}); err != nil {
			return err
		}
	}
	if bound.Spec.Capacity["storage"] == size {
		return nil
	}
	log.Printf("%s of %s/%s grows to %s", bound.Metadata.Name, wanted.Metadata.Namespace, wanted.Metadata.Name, size)
	change := map[string]any{"spec": map[string]any{"capacity": map[string]string{"storage": size}}}
	return client.Merge(ctx, "/api/v1/persistentvolumes/"+bound.Metadata.Name, change)
}

func provide(ctx context.Context, client *api.Client, wanted claim, policy, size string) error {
	name := "pvc-" + wanted.Metadata.UID
	folder := filepath.Join(sharedFolder, name)
	// As a new file system is: only root may write, until the kubelet gives it to the pod's group.
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	log.Printf("%s for %s/%s", name, wanted.Metadata.Namespace, wanted.Metadata.Name)
	return client.Create(ctx, "/api/v1/persistentvolumes", volume{
		APIVersion: "v1",
		Kind:       "PersistentVolume",
		Metadata:   metadata{Name: name, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": driver}},
		Spec: volumeSpec{
			StorageClassName:              wanted.Spec.StorageClassName,
			AccessModes:                   wanted.Spec.AccessModes,
			Capacity:                      map[string]string{"storage": size},
			PersistentVolumeReclaimPolicy: policy,
			ClaimRef: reference{
				APIVersion: "v1",
				Kind:       "PersistentVolumeClaim",
				Namespace:  wanted.Metadata.Namespace,
				Name:       wanted.Metadata.Name,
				UID:        wanted.Metadata.UID,
			},
			CSI: &csiSource{Driver: driver, VolumeHandle: name},
		},
	})
}

func remove(ctx context.Context, client *api.Client, released volume) error {
	log.Printf("%s is released and goes", released.Metadata.Name)
	if err := os.RemoveAll(filepath.Join(sharedFolder, released.Metadata.Name)); err != nil {
		return err
	}
	return client.Delete(ctx, "/api/v1/persistentvolumes/"+released.Metadata.Name)
}
